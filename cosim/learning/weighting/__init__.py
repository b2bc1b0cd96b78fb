"""Weightings: how much each client counts in an average."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from cosim.parts import Part


class Sender(NamedTuple):
    """What a server knows of a client when it averages.

    Attributes
    ----------
    num_examples
        How many training examples it holds.
    loss, best_loss
        What it reported of this round, and the lowest it ever did; None where it reports nothing, or
        nothing is computed.
    """

    num_examples: int
    loss: float | None = None
    best_loss: float | None = None


class Weighting(Part):
    """How much each sender counts.

    Attributes
    ----------
    is_by_data
        Whether it goes by the numbers of examples alone.
    needs_losses
        Whether clients report the losses of the round before they upload.
    """

    is_by_data: ClassVar[bool] = False
    needs_losses: ClassVar[bool] = False

    @abstractmethod
    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return the weight of each sender; they add up to one."""


def shares(amounts: Sequence[float]) -> list[float]:
    """Return each amount over the sum of all.

    Examples
    --------
    >>> shares([1, 3])
    [0.25, 0.75]
    """
    total = sum(amounts)
    return [one / total for one in amounts]
