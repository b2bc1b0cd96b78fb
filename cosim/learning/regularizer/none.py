"""Nothing but the loss."""

from typing import Literal

from cosim.learning.regularizer import Regularizer, Tensors


class Unregularized(Regularizer):
    """Adds nothing."""

    kind: Literal["none"] = "none"

    @property
    def is_none(self) -> bool:
        """Always."""
        return True

    def loss(self, adapter: Tensors) -> float:
        """Return zero."""
        return 0.0

    def gradient(self, adapter: Tensors) -> Tensors:
        """Return nothing."""
        return {}
