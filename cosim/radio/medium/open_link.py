"""A link whose transfers drain: who may send on what, who sends, who waits."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from simpy.events import Event

from cosim.kernel.job import NEVER_NS, Job, Rate
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.holders import Holders
from cosim.units import Ints


@dataclass(eq=False, slots=True)
class Transfer:
    """A transfer on the air: what drains, under which grant, since when; a paused one has none."""

    job: Job
    energy_j: float = 0.0
    grant: Grant | None = None
    channel: Channel | None = None
    since_ns: int = 0
    is_lost: bool = False
    version: int = 0  # counts how often it began or paused
    until_ns: int = NEVER_NS  # when somebody it needs leaves
    num_cuts: int = 0
    resent_bits: float = 0.0
    cut_bits: float | None = None
    away_ns: int = 0


@dataclass(eq=False)
class Waiting:
    """A client that waits for subchannels; one in flight, but paused, has no turn.

    ``was_free``: when it asked it was kept from them only until the instant was over.
    """

    client: int
    turn: Event | None = None
    asked_ns: int = -1
    was_free: bool = False


@dataclass(eq=False)
class OpenLink:
    """One link alive: who may send on what, who sends, who waits.

    Clients that receive one transmission together are a group, which has a number
    below zero and is in every table as a client is.
    """

    link: Link
    groups: dict[int, tuple[int, ...]] = field(default_factory=dict)
    overlaps: bool = False  # grants share subchannels, so that only those who send hold any
    granted: dict[int, Grant] = field(default_factory=dict)
    active: dict[int, Transfer] = field(default_factory=dict)
    waiting: deque[Waiting] = field(default_factory=deque)
    made_room: int | None = None  # the latest span to end now
    is_due: bool = False  # to let in those who wait, when the instant is over
    paused: dict[int, Transfer] = field(default_factory=dict)
    rates: dict[int, Rate] = field(default_factory=dict)
    holders: Holders = field(default_factory=Holders)
    recorded: dict[int, Grant] = field(default_factory=dict)  # all of whose subchannels are held as it says
    admitted: dict[int, None] = field(default_factory=dict)  # a set that keeps its order
    busy: set[int] = field(default_factory=set)
    is_reserved: bool = False
    cells: Ints | None = None  # where cells reuse the band: which base station serves each client
    num_subchannels: int = 0

    @property
    def name(self) -> str:
        """Of the link."""
        return self.link.name

    def members(self, client: int) -> tuple[int, ...]:
        """Return the clients of a group, or the one client."""
        return self.groups.get(client, (client,))

    def join(self, members: tuple[int, ...]) -> int:
        """Return the number of a group of clients, or that of the one client."""
        if len(members) == 1:
            return members[0]
        number = min(self.groups, default=0) - 1
        self.groups[number] = members
        self.granted[number] = Grant.union([self.granted[one] for one in members])
        return number

    def part(self, client: int) -> None:
        """Forget a group."""
        if client in self.groups:
            del self.groups[client], self.granted[client]
            self.rates.pop(client, None)

    def cell(self, client: int) -> int:
        """Return which queue a client waits in: one for all, or, where cells reuse the band, its cell's."""
        return 0 if self.cells is None or client < 0 else int(self.cells[client])

    def has_waiting(self, client: int) -> bool:
        """Return whether anybody waits in a client's queue."""
        if not self.waiting:
            return False
        cell = self.cell(client)
        return any(self.cell(one.client) == cell for one in self.waiting)

    def numbers(self, client: int, grant: Grant) -> Ints:
        """Return the numbers of a grant's subchannels; where cells reuse the band each cell has its own."""
        if self.cells is None:
            return grant.subchannels
        return grant.subchannels + self.num_subchannels * self.cell(client)

    def _wanted(self, client: int) -> Collection[int]:
        """Return the numbers of the client's subchannels, as plain ones."""
        grant = self.granted[client]
        return grant.numbers if self.cells is None else self.numbers(client, grant).tolist()

    def has_free(self, client: int) -> bool:
        """Return whether all of the client's subchannels are free."""
        return not self.is_reserved and self.busy.isdisjoint(self._wanted(client))

    def admit(self, client: int) -> bool:
        """Take the client's subchannels if all of them are free."""
        wanted = self._wanted(client)
        if self.is_reserved or not self.busy.isdisjoint(wanted):
            return False
        self.admitted[client] = None
        self.busy.update(wanted)
        return True

    def line_up(self, one: Waiting) -> None:
        """Let a client wait: behind those who asked before, of one instant in the order of the clients."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].asked_ns == one.asked_ns:
            if self.members(self.waiting[place - 1].client) < self.members(one.client):
                break
            place -= 1
        self.waiting.insert(place, one)

    def dismiss(self, client: int) -> None:
        """Free the client's subchannels."""
        del self.admitted[client]
        self.busy.difference_update(self._wanted(client))
