"""Hand-overs: what a stage of a training starts from, given what the stage before it has learned."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cosim.learning.shape import Linear
from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Start(NamedTuple):
    """What a stage starts from.

    Attributes
    ----------
    adapter
        Low-rank factors, and what is no factor, by name.
    residual
        What is merged into the base, of shape (outputs, inputs) by the name of A.
    kept_energy
        Share of the squared norm of the changes that the factors have.
    """

    adapter: Tensors
    residual: Tensors
    kept_energy: float


class Handover(Part):
    """How LoRA adapters take over from another stage.

    Attributes
    ----------
    keeps_residual
        Whether something is merged into the base.
    """

    @property
    @abstractmethod
    def keeps_residual(self) -> bool:
        """Whether something is merged into the base."""

    @abstractmethod
    def begin(self, changes: Mapping[str, "Tensor"], fresh: Tensors, scaling: float) -> Start:
        """Return what the next stage starts from; nothing given is written to.

        Parameters
        ----------
        changes
            What was added to the weights so far, of shape (outputs, inputs), by the name of A beside them.
        fresh
            The adapter that a training by itself starts from.
        scaling
            The s in ``W + s B A``.
        """

    @abstractmethod
    def flop(self, matrices: Collection[Linear]) -> int:
        """Return the FLOP that the federated server is charged for it."""
