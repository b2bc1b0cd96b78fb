"""What the slots of a transfer went to."""

from collections.abc import Mapping
from typing import NamedTuple, Self


class Spent(NamedTuple):
    """Slots from the one in which a transfer sent first to the one in which its last bit arrived.

    The names are those of metrics; of a transfer that has none of something, that metric is not recorded.

    Attributes
    ----------
    num_blocks
        In which it sent, a transport block each.
    num_failed_blocks, num_repeated_blocks, num_given_up_blocks
        Of these, attempts that failed, those after a block's first, and those that were a block's last
        and failed too: an outage, after which the layer above sends its bits again.
    num_unscheduled_slots
        In which others had all resource blocks that it may use.
    num_idle_slots
        In which all it had left was on its way, and no failed block was due again yet.
    num_away_slots
        In which somebody it needs was away.
    """

    num_blocks: int
    num_failed_blocks: int
    num_repeated_blocks: int = 0
    num_given_up_blocks: int = 0
    num_unscheduled_slots: int = 0
    num_idle_slots: int = 0
    num_away_slots: int = 0

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> Self:
        """Return it from metrics, others among them; without any it is of no slot."""
        return cls(*(int(metrics.get(name, 0)) for name in cls._fields))

    def measures(self) -> dict[str, float]:
        """Return what is recorded."""
        return {name: value for name, value in self._asdict().items() if value or name in self._fields[:2]}

    @property
    def num_slots(self) -> int:
        """How many there are in all."""
        return self.num_blocks + self.num_unscheduled_slots + self.num_idle_slots + self.num_away_slots
