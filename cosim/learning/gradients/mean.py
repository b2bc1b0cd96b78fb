"""The mean over a mini-batch."""

from typing import Literal

from cosim.learning.gradients import Gradients, Tensors


class Mean(Gradients):
    """Takes every example's gradient as it is."""

    kind: Literal["mean"] = "mean"

    @property
    def is_mean(self) -> bool:
        """Always."""
        return True

    def of_example(self, gradient: Tensors) -> Tensors:
        """Return the gradient."""
        return gradient
