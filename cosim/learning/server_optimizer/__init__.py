"""Server optimisers: what the federated server makes of the average of a round.

What the average is away from where the round began, with its sign turned, is taken for a gradient, and
the server follows it with an optimiser of its own, whose state it keeps. Nothing more travels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Sender(NamedTuple):
    """What the server knows of one sender of a round.

    Attributes
    ----------
    client
        Its number.
    weight, share, part
        Its weight in the average; its share in the data of all; how many of all clients sent, as a share.
    rates
        The sum of the learning rates of its local steps.
    upload
        What it sent.
    """

    client: int
    weight: float
    share: float
    part: float
    rates: float
    upload: Tensors


class ServerOptimizer(Part):
    """How the global adapter follows the average of a round.

    Attributes
    ----------
    needs_each
        Whether it works on the update of each sender, and not on their average alone.
    """

    needs_each: ClassVar[bool] = False

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

    def step_each(
        self, before: Tensors, average: Tensors, state: Tensors, senders: Sequence[Sender]
    ) -> tuple[Tensors, Tensors]:
        """Return the same, of one that ``needs_each``, with what is known of every sender."""
        return self.step(before, average, state)
