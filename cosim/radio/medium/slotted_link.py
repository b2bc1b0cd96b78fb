"""What a link that goes slot by slot has under way."""

from dataclasses import dataclass, field

from simpy.events import Event

from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.slots.ahead import Ahead
from cosim.radio.slots.sending import Sender
from cosim.radio.slots.spent import Spent

FEWEST_SLOTS = 32
"""Slots that are worked out at first."""


@dataclass(eq=False)
class SlottedTransfer:
    """A payload on the air, who sends or receives it, and since when it could."""

    members: tuple[int, ...]
    bits: int
    asked_ns: int
    from_slot: int
    done: Event
    sender: Sender
    mean_rate: float = 0.0
    after_span: int | None = None
    cut_bits: float | None = None
    num_cuts: int = 0
    away_ns: int = 0
    num_away_slots: int = 0

    @property
    def spent(self) -> Spent:
        """What its slots went to."""
        one = self.sender
        blocks = one.num_sent, one.num_failed, one.num_repeated, one.num_given_up
        return Spent(*blocks, one.num_unscheduled, one.num_idle, self.num_away_slots)

    def end(self) -> None:
        """Let who waits for it go on."""
        self.done.succeed()


@dataclass(eq=False)
class SlottedLink:
    """One link alive; all that happens in slots before ``slot`` has happened.

    Several receivers of one transmission have a number below zero, as a client has its own.
    """

    link: Link
    granted: dict[int, Grant] = field(default_factory=dict)
    overlaps: bool = False
    active: dict[int, SlottedTransfer] = field(default_factory=dict)
    paused: dict[int, SlottedTransfer] = field(default_factory=dict)
    slot: int = 0
    ahead: Ahead | None = None
    num_slots: int = FEWEST_SLOTS
    version: int = 0
    offsets_db: dict[tuple[int, ...], float] = field(default_factory=dict)
    holders: dict[int, tuple[int, float]] = field(default_factory=dict)

    def actors_of(self, transfer: SlottedTransfer) -> tuple[str, ...]:
        """Return whom a transfer needs: its clients, and the server."""
        return (*(f"client-{one}" for one in transfer.members), self.link.server)
