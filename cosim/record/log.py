"""The log of a running simulation: columns that grow, a row a piece of work, a metric, a grant or a round."""

import math
from array import array
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["compute", "transfer"]

_ROWS_AT_ONCE = 1024
_SPAN_COLUMNS = (
    *("kind", "name", "actor", "peer", "round", "local_step", "asked_ns", "start_ns", "end_ns"),
    *("bits", "flop", "energy_j", "node", "task"),
)


class Extra(NamedTuple):
    """What few spans have.

    Attributes
    ----------
    delivered
        Whether a transfer arrived.
    resent_bits
        Bits that were sent again on top of the payload.
    participants
        The clients in a transmission that had several senders or several receivers.
    """

    delivered: bool = True
    resent_bits: float = 0.0
    participants: Sequence[str] = ()


class SpanLog:
    """Pieces of work that took simulated time, in the order in which they ended.

    Spans are numbered by that order, so a span's parents always have smaller
    numbers than the span itself. ``extras`` holds what few of them have, by number: a
    span that has none of it pays for none of it. ``made_room`` are the spans that had to wait for a
    place, whose last parent made room; it is not recorded.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._num_columned = 0
        self.parents = array("q")
        self.parents_end = array("q")
        self.kind: list[str] = []
        self.name: list[str] = []
        self.actor: list[str] = []
        self.peer: list[str] = []
        self.round = array("q")
        self.local_step = array("q")
        self.asked_ns = array("q")
        self.start_ns = array("q")
        self.end_ns = array("q")
        self.bits = array("d")
        self.flop = array("d")
        self.energy_j = array("d")
        self.node: list[str] = []
        self.task: list[str] = []
        self.extras: dict[int, Extra] = {}
        self.made_room: set[int] = set()

    def __len__(self) -> int:
        return self._num_columned + len(self._rows)

    def add(
        self,
        parents: Sequence[int],
        kind: Kind,
        name: str,
        actor: str,
        peer: str,
        round_: int,
        local_step: int,
        asked_ns: int,
        start_ns: int,
        end_ns: int,
        bits: float,
        flop: int,
        energy_j: float,
        node: str,
        *,
        task: str = "",
        delivered: bool = True,
        resent_bits: float = 0.0,
        participants: Sequence[str] = (),
        made_room: int | None = None,
    ) -> int:
        """Add one span and return its number; ``made_room`` is the span that gave up the place it waited for.

        Where several clients sent at once ``actor`` is empty, where several received
        ``peer`` is; ``participants`` are these clients.

        Raises
        ------
        ValueError
            If there are participants, and not just one of ``actor`` and ``peer``.
        """
        rows = self._rows
        if participants or resent_bits or not delivered:
            if participants and bool(actor) == bool(peer):
                raise ValueError(f"{name}: several clients are at one end, so actor or peer must be empty")
            self.extras[len(self)] = Extra(delivered, resent_bits, tuple(participants))
        if made_room is not None:
            self.made_room.add(len(self))
            parents = (*parents, made_room)
        times = asked_ns, start_ns, end_ns
        rows.append(
            (parents, kind, name, actor, peer, round_, local_step, *times, bits, flop, energy_j, node, task)
        )
        if len(rows) == _ROWS_AT_ONCE:
            self.settle()
        return self._num_columned + len(rows) - 1

    def settle(self) -> None:
        """Move the latest rows into the columns: together this takes a third of the time of one by one."""
        if not self._rows:
            return
        parents, *columns = zip(*self._rows, strict=True)
        for some in parents:
            self.parents.extend(some)
            self.parents_end.append(len(self.parents))
        for name, column in zip(_SPAN_COLUMNS, columns, strict=True):
            getattr(self, name).extend(column)
        self._num_columned += len(self._rows)
        self._rows.clear()


class MetricLog:
    """Measured values at instants."""

    def __init__(self) -> None:
        self.time_ns = array("q")
        self.round = array("q")
        self.local_step = array("q")
        self.actor: list[str] = []
        self.name: list[str] = []
        self.value = array("d")
        self.task: list[str] = []

    def __len__(self) -> int:
        return len(self.name)

    def add(
        self,
        time_ns: int,
        round_: int,
        local_step: int,
        actor: str,
        name: str,
        value: float,
        *,
        task: str = "",
    ) -> None:
        """Add one value."""
        self.time_ns.append(time_ns)
        self.round.append(round_)
        self.local_step.append(local_step)
        self.actor.append(actor)
        self.name.append(name)
        self.value.append(value)
        self.task.append(task)


class GrantLog:
    """Who owns which subchannel from which instant on; client "" means nobody does."""

    def __init__(self) -> None:
        self.time_ns = array("q")
        self.round = array("q")
        self.link: list[str] = []
        self.subchannel = array("q")
        self.client: list[str] = []
        self.tx_power_w = array("d")
        self.gain = array("d")
        self.bandwidth_hz = array("d")

    def __len__(self) -> int:
        return len(self.link)

    def add(
        self,
        time_ns: int,
        round_: int,
        link: str,
        subchannel: int,
        client: str,
        tx_power_w: float,
        gain: float,
        bandwidth_hz: float | None = None,
    ) -> None:
        """Add one change of hands.

        ``gain`` is the linear power gain at that instant; ``bandwidth_hz`` the width
        of a channel the band was split into, None for the link's own subchannel.
        """
        self.time_ns.append(time_ns)
        self.round.append(round_)
        self.link.append(link)
        self.subchannel.append(subchannel)
        self.client.append(client)
        self.tx_power_w.append(tx_power_w)
        self.gain.append(gain)
        self.bandwidth_hz.append(math.nan if bandwidth_hz is None else bandwidth_hz)


class RoundLog:
    """Rounds as the scheme plays them, in the order in which they begin; they may overlap.

    ``end_ns`` is -1 for a round that goes on.
    """

    def __init__(self) -> None:
        self.task: list[str] = []
        self.round = array("q")
        self.start_ns = array("q")
        self.end_ns = array("q")
        self.participants: list[tuple[str, ...]] = []
        self.num_ended = 0
        self._going_on: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return len(self.round)

    def begin(self, time_ns: int, round_: int, participants: Sequence[str], *, task: str = "") -> None:
        """Add a round that begins.

        Raises
        ------
        ValueError
            If a round of that number goes on already.
        """
        if (task, round_) in self._going_on:
            raise ValueError(f"round {round_} begins, and one of that number has not ended")
        self._going_on[task, round_] = len(self)
        self.task.append(task)
        self.round.append(round_)
        self.start_ns.append(time_ns)
        self.end_ns.append(-1)
        self.participants.append(tuple(participants))

    def goes_on(self, round_: int, *, task: str = "") -> bool:
        """Return whether a round of that number has begun and not ended."""
        return (task, round_) in self._going_on

    def end(self, time_ns: int, round_: int, *, task: str = "") -> None:
        """End a round that goes on.

        Raises
        ------
        ValueError
            If no round of that number goes on.
        """
        row = self._going_on.pop((task, round_), None)
        if row is None:
            raise ValueError(f"round {round_} ends, and has not begun: a scheme says first that it begins")
        self.end_ns[row] = time_ns
        self.num_ended += 1


class Log:
    """All that a run records while it goes."""

    def __init__(self) -> None:
        self.spans = SpanLog()
        self.metrics = MetricLog()
        self.grants = GrantLog()
        self.rounds = RoundLog()
