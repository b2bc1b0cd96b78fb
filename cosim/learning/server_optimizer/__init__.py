"""Server optimisers: what the federated server makes of the average of a round.

What the average is away from where the round began, with its sign turned, is taken for a gradient, and
the server follows it with an optimiser of its own, whose state it keeps. Nothing more travels.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class ServerOptimizer(Part):
    """How the global adapter follows the average of a round."""

    @property
    def is_none(self) -> bool:
        """Whether the average itself is the next global adapter."""
        return False

    @abstractmethod
    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the next global adapter and the new state; nothing given is written to.

        Parameters
        ----------
        before
            The global adapter the round began from.
        average
            What the round's uploads come to, by the same names.
        state
            What the last step returned; empty at the first.
        """
