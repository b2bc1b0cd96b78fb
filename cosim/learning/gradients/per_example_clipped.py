"""Examples' gradients shortened to a norm."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.gradients import Gradients, Tensors, shortened


class PerExampleClipped(Gradients):
    """Scales each example's gradient down to a 2-norm of ``max_norm``, if it is longer, then takes the mean.

    No example then moves a step by more than its share of ``max_norm``. Behind a cut each side
    clips what it holds: the client finds its own gradient of each example from that of the example's
    activations. Examples are computed one after the other, one gradient in memory at a time; what that
    and the norms cost is not charged. Without ``max_norm`` nothing is clipped.

    Source
    ------
    M. Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1, without its noise.
    """

    kind: Literal["per_example_clipped"] = "per_example_clipped"
    max_norm: float | None = Field(default=1.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"max_norm": 0.1})

    def of_example(self, gradient: Tensors) -> Tensors:
        """Return the gradient times the smaller of 1 and ``max_norm`` over its norm."""
        return gradient if self.max_norm is None else shortened(gradient, self.max_norm)
