"""Equal bandwidth, and every client sends what gets through."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.control.allocators.sparsifying import KeepRatios, Upload, curves_of
from cosim.control.decision import Allocation
from cosim.control.solvers.sparsity.alternating import filled
from cosim.control.state import CellState


class EqualBandwidth(KeepRatios):
    """The same bandwidth for all; each client sends what gets through it by ``latency_limit_s``.

    Source
    ------
    Method card 2 (soft_tsfa), section 9.
    """

    kind: Literal["equal_bandwidth"] = "equal_bandwidth"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"latency_limit_s": 100.0},
        {"latency_limit_s": 100.0, "bandwidth": "subchannels"},
    )

    def decide(self, state: CellState, upload: Upload) -> Allocation:
        """Return this round's decision."""
        curves, pairs = curves_of(upload, "generic")
        takes_part = upload.weights > 0.0
        widths = np.where(takes_part, upload.now.bandwidth_hz / max(int(takes_part.sum()), 1), 0.0)
        deadline_s = self.latency_limit_s - upload.beside_s
        found = filled(upload.now, curves, widths, deadline_s)
        return self.decision(state, upload, pairs, found.bits, deadline_s, bandwidth_hz=widths)
