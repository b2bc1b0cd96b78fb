"""Hand-over: all that was learned joins the base."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from cosim.learning.handover import Handover, Start, Tensors
from cosim.learning.shape import Linear


class Folded(Handover):
    """Adapters start as in a training by itself, on a base that has learned."""

    kind: Literal["far_folded"] = "far_folded"

    @property
    def keeps_residual(self) -> bool:
        """Everything."""
        return True

    def begin(self, changes: Mapping[str, Any], fresh: Tensors, scaling: float) -> Start:
        """Return a fresh adapter, and the changes."""
        return Start(dict(fresh), dict(changes), 0.0)

    def flop(self, matrices: Collection[Linear]) -> int:
        """Return none: nothing is computed."""
        return 0
