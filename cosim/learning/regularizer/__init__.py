"""Regularisers: what is added to the loss of a client's mini-batch, from its adapter alone.

They add their gradient in closed form, so a step needs no second walk through a
graph. Nothing of it is transmitted, and the recorded losses are without it.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Regularizer(Part):
    """A term of the loss that an adapter's own numbers decide.

    Attributes
    ----------
    needs_factors
        Whether it is about the factors of LoRA adapters, and is zero for other tensors.
    """

    needs_factors: ClassVar[bool] = False

    @property
    def is_none(self) -> bool:
        """Whether there is no such term, and nothing need be computed."""
        return False

    @property
    def equalises_norms(self) -> bool:
        """Whether it draws the norms of all pairs together, which blinds importance by norms."""
        return False

    @abstractmethod
    def loss(self, adapter: Tensors) -> float:
        """Return the term, weight included."""

    @abstractmethod
    def gradient(self, adapter: Tensors) -> Tensors:
        """Return the term's gradient for the tensors it is about, by name; writes into nothing."""

    def added(self, adapter: Tensors, gradients: Tensors) -> Tensors:
        """Return gradients with the term's own added; only tensors that have one already get any."""
        import torch

        own = {name: one for name, one in self.gradient(adapter).items() if name in gradients}
        if not own:
            return gradients
        sums = torch._foreach_add([gradients[name] for name in own], list(own.values()))
        return {**gradients, **dict(zip(own, sums, strict=True))}
