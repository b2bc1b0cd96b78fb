"""The old name of :mod:`cosim.control`, for parts of other packages."""

import sys

from cosim.control import decision, state
from cosim.control.allocators import Allocator, GainChange

__all__ = ["Allocator", "GainChange", "decision", "state"]

sys.modules |= {f"{__name__}.decision": decision, f"{__name__}.state": state}
