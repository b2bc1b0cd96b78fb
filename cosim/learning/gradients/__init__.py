"""Gradients: what becomes of each example's gradient before the mean of a mini-batch is taken.

The gradient of a mini-batch is the mean over its examples of the gradient of each example's own
mean loss, weighted by its targets. A part may change each of these, in closed form, before.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Gradients(Part):
    """What becomes of an example's gradient."""

    @property
    def is_mean(self) -> bool:
        """Whether examples are never kept apart, and the mean is computed in one go."""
        return False

    @abstractmethod
    def of_example(self, gradient: Tensors) -> Tensors:
        """Return what of an example's gradient goes into the mean; nothing given is written to.

        Parameters
        ----------
        gradient
            Of the example's mean loss, by what is trained on one side of a cut, or in the whole model.
        """
