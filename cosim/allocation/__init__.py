"""Who gets which subchannels, power, cut layer and rank: a snapshot in, a decision out."""

from abc import abstractmethod
from typing import ClassVar

from cosim.allocation.decision import Allocation
from cosim.allocation.state import CellState
from cosim.parts import Part


class Allocator(Part):
    """Decides from a frozen snapshot; a pure function without clock or handles."""

    shares_in_time: ClassVar[bool] = False
    """Whether clients may be granted the same subchannel and take turns on it."""

    @abstractmethod
    def allocate(self, state: CellState) -> Allocation:
        """Return the decision for this snapshot.

        Raises
        ------
        AllocationError
            If no decision keeps the limits of the cell; names the link or the
            client and what is missing.
        """
