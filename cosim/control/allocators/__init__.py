"""Who gets which subchannels, power, cut layer and rank: a snapshot in, a decision out."""

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field

from cosim.control.decision import Allocation
from cosim.control.reports import Report
from cosim.control.state import CellState
from cosim.parts import Part, Plane, Table


class GainChange(Table):
    """Ask again at the first round for which the channel has changed by more than this.

    Attributes
    ----------
    gain_change_db
        Largest change of any client on any link since the last decision, dB; a
        client's gain is its mean over the subchannels it was granted.
    """

    gain_change_db: float = Field(gt=0.0, le=400.0)


class Allocator(Part):
    """Decides from a frozen snapshot; a pure function without clock or handles.

    Attributes
    ----------
    reallocate
        When it is asked again: ``once`` at the beginning only, ``every_round``,
        ``{ gain_change_db = 3.0 }``, at the first round for which the channel has
        changed by more than that, or ``every_block``, whenever a block of the channel
        begins, in the middle of a round too. Cut layer and rank stay what they were first.
    """

    plane: ClassVar[Plane] = "time"
    shares_in_time: ClassVar[bool] = False
    """Whether clients may be granted the same subchannel and take turns on it."""

    serves_tasks: ClassVar[bool] = False
    """Whether what it grants depends on links alone, so that several tasks of the clients can share it."""

    sets_sparsification_ratios: ClassVar[bool] = False
    """Whether it says how much of an adapter each client sends; it is then asked at every round."""

    sets_knobs: ClassVar[frozenset[str]] = frozenset()
    """Knobs its decisions set; what is learned depends on those of the value plane."""

    sees_gains: ClassVar[bool] = True
    """Whether what it decides depends on gains, bandwidths or noise; else on limits and numbers alone."""

    searches: ClassVar[bool] = False
    """Whether it tries pairs of client and subchannel one by one."""

    plans_senders: ClassVar[bool] = False
    """Whether who sends nothing in the round it plans is granted next to nothing."""

    is_for_one_cell: ClassVar[bool] = False
    """Whether its settings name clients and subchannels, and so fit the cell they were written for alone."""

    reallocate: Literal["once", "every_round", "every_block"] | GainChange = "once"

    @property
    def reports(self) -> tuple[Report, ...]:
        """The scalars it wants of each client that takes part; known once they have arrived."""
        return ()

    @property
    def awaits_reports(self) -> bool:
        """Whether it is asked in every round, as soon as what it waits for has arrived from all."""
        return any(report.is_awaited for report in self.reports)

    @property
    def chooses_rank(self) -> bool:
        """Whether it chooses the rank of LoRA adapters, or knows of ranks."""
        return False

    @property
    def splits_bands(self) -> bool:
        """Whether it splits a link's band into channels of any width."""
        return False

    def num_cuts_tried(self, num_cuts: int) -> int:
        """Return how many of the cut layers there are it tries."""
        return 1

    def latency(self, state: CellState) -> tuple[float, float, float] | None:
        """Return its limit on a round's latency, and that of a round if nothing and if all is sent, s."""
        return None

    @abstractmethod
    def allocate(self, state: CellState) -> Allocation:
        """Return the decision for this snapshot.

        Raises
        ------
        AllocationError
            If no decision keeps the limits of the cell; names the link or the
            client and what is missing.
        """
