"""Gradients: every example's, scaled to the same length."""

from typing import Literal

from cosim.learning.gradients import Gradients, Tensors


class UnitLength(Gradients):
    """Scales each example's gradient to a 2-norm of one, longer ones and shorter ones."""

    kind: Literal["far_unit_length"] = "far_unit_length"

    def of_example(self, gradient: Tensors) -> Tensors:
        """Return the gradient over its norm; a gradient of zero stays."""
        norm = sum(float(one.double().square().sum()) for one in gradient.values()) ** 0.5
        return {name: one / (norm or 1.0) for name, one in gradient.items()}
