"""Who of the clients is there in the rounds of a task, and who is out of them."""

from collections.abc import Sequence
from typing import NamedTuple

from cosim.graph.node import Node
from cosim.kernel.clock import Steps
from cosim.kernel.job import NEVER_NS
from cosim.kernel.presence import Comings
from cosim.measuring import Moment
from cosim.site import Site


class Missed(NamedTuple):
    """A download that a client has missed: its size, what it is of, and what it waits for."""

    bits: int
    node: Node
    after: Sequence[int]


class Attendance:
    """Who is there, and who is out, where clients come and go.

    Parameters
    ----------
    site
        Clock, log, and when clients and servers are there.
    task
        The name of the task that is recorded.

    Attributes
    ----------
    out
        Clients that left in the middle of this round and are out of it, each with the span that was cut.
    missed
        Downloads that clients have missed while they were away, by name.
    anybody_leaves
        Whether clients and servers come and go at all.
    """

    def __init__(self, site: Site, task: str) -> None:
        self._presence, self._clock, self._metrics = site.presence, site.clock, site.log.metrics
        self.anybody_leaves = site.presence is not None
        self._names, self._task = site.client_names, task
        self.out: dict[str, int] = {}
        self.missed: dict[int, dict[str, Missed]] = {}

    def of(self, actor: str) -> Comings | None:
        """Return when an actor is away; None if it always is there."""
        return None if self._presence is None else self._presence.of(actor)

    def is_here(self, client: int) -> bool:
        """Return whether a client is there now."""
        return self._presence is None or self._presence.is_here(self._names[client], self._clock.now)

    @property
    def skips(self) -> bool:
        """Whether who is away when a round begins is left out of it."""
        return self._presence is not None and self._presence.skips

    @property
    def drops(self) -> bool:
        """Whether who leaves is out for the rest of the round."""
        return self._presence is not None and self._presence.drops

    @property
    def dropped(self) -> list[int]:
        """Clients that have left in this round, and are out of it."""
        return [client for client, name in enumerate(self._names) if name in self.out]

    def is_out(self, actor: str, moment: Moment, after: Sequence[int]) -> bool:
        """Return whether a client is out of this round, as it is from now on if it is away."""
        comings = self.of(actor)
        if comings is None or comings.on_leave != "drop":
            return False
        if actor not in self.out and after and comings.back_ns(self._clock.now) > self._clock.now:
            self.drop(actor, moment, after[-1])
        return actor in self.out

    def drop(self, actor: str, moment: Moment, span: int) -> None:
        """Let a client be out for the rest of the round, as it has left."""
        self.out[actor] = span
        at = (self._clock.now, moment.round, moment.local_step, actor)
        self._metrics.add(*at, "dropped", 1.0, task=self._task)

    def rejoin(self, clients: Sequence[int]) -> None:
        """Let clients be in again that were out."""
        for client in clients:
            self.out.pop(self._names[client], None)

    def until_there(self, actors: tuple[str, ...]) -> Steps:
        """Wait until all of these are there."""
        if self._presence is None:
            return
        now_ns = self._clock.now
        back_ns = self._presence.back_ns(actors, now_ns)
        if back_ns >= NEVER_NS:
            yield self._clock.event(f"{' and '.join(actors)} to be there")
        if back_ns > now_ns:
            yield self._clock.timeout(back_ns - now_ns)

    def present(self, clients: Sequence[int]) -> Steps:
        """Return those of some clients who take part in a round that begins: all, or those who are there.

        If nobody is, it waits for the first to come.
        """
        here = list(clients)
        if self._presence is not None and self._presence.skips and here:
            while not (here := list(filter(self.is_here, clients))):
                now_ns = self._clock.now
                back_ns = min(self._presence.back_ns((self._names[one],), now_ns) for one in clients)
                if back_ns >= NEVER_NS:
                    yield self._clock.event("a client to come back")
                yield self._clock.timeout(back_ns - now_ns)
            self.rejoin(here)
        return here
