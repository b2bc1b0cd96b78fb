"""Gradients: what becomes of each example's gradient before the mean of a mini-batch is taken.

The gradient of a mini-batch is the mean over its examples of the gradient of each example's own
mean loss, weighted by its targets. A part may change each of these, in closed form, before.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from cosim.learning.update import Release
from cosim.parts import Part
from cosim.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Gradients(Part):
    """What becomes of an example's gradient."""

    @property
    def is_mean(self) -> bool:
        """Whether examples are never kept apart, and the mean is computed in one go."""
        return False

    @property
    def counts_alike(self) -> bool:
        """Whether every example has the same share in the mean; else its share is by its targets."""
        return False

    @property
    def release(self) -> Release | None:
        """What a mini-batch gives away: the most an example adds to its sum, and the noise on that."""
        return None

    @abstractmethod
    def of_example(self, gradient: Tensors) -> Tensors:
        """Return what of an example's gradient goes into the mean; nothing given is written to.

        Parameters
        ----------
        gradient
            Of the example's mean loss, by what is trained on one side of a cut, or in the whole model.
        """

    def finished(self, mean: Tensors, num_examples: int, chance: Stream) -> Tensors:
        """Return what a step goes along, from the mean over so many examples; asked of who has a release."""
        return mean


def shortened(gradient: Tensors, max_norm: float) -> Tensors:
    """Return a gradient times the smaller of 1 and ``max_norm`` over its 2-norm."""
    norm = sum(float(one.detach().double().square().sum()) for one in gradient.values()) ** 0.5
    scale = max_norm / norm if norm > max_norm else 1.0
    return {name: one * scale for name, one in gradient.items()}
