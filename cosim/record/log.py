"""The log of a running simulation: columns that grow, a row a piece of work, a metric, a grant or a round."""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from cosim.record.grants import GrantLog
from cosim.units import Ints

if TYPE_CHECKING:
    from cosim.record.summaries import Summaries

Kind = Literal["compute", "transfer"]

_ROWS_AT_ONCE = 1024
_BARRIER = 8  # from so many causes on a tuple of them may be that of many spans
_MOST_BARRIERS = 64
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
    span that has none of it pays for none of it. What a span waits for is a set with a
    number, ``cause``: those behind a barrier wait for one set, if they are given the same
    tuple. ``made_room`` are the spans that had to wait for a place, whose last parent made
    room; it is not recorded.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._num_columned = 0
        self.cause = array("q")
        self.causes = array("q")
        self.causes_end = array("q")
        self._barriers: dict[int, tuple[Sequence[int], int]] = {}
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
        rows.append(
            (
                parents,
                kind,
                name,
                actor,
                peer,
                round_,
                local_step,
                asked_ns,
                start_ns,
                end_ns,
                bits,
                flop,
                energy_j,
                node,
                task,
            )
        )
        if len(rows) == _ROWS_AT_ONCE:
            self.settle()
        return self._num_columned + len(rows) - 1

    def settle(self) -> None:
        """Move the latest rows into the columns: together this takes a third of the time of one by one."""
        if not self._rows:
            return
        parents, *columns = zip(*self._rows, strict=True)
        self.cause.extend(self._numbers(parents))
        for name, column in zip(_SPAN_COLUMNS, columns, strict=True):
            getattr(self, name).extend(column)
        self._num_columned += len(self._rows)
        self._rows.clear()

    def _numbers(self, sets: Sequence[Sequence[int]]) -> list[int]:
        """Return the number of each set of causes, a new one unless it is a barrier's that is held."""
        barriers, first, before = self._barriers, len(self.causes_end), len(self.causes)
        numbers, causes, ends = list[int](), list[int](), list[int]()
        for parents in sets:
            may_be_barrier = len(parents) >= _BARRIER and isinstance(parents, tuple)
            known = barriers.get(id(parents)) if may_be_barrier else None
            if known is not None:
                numbers.append(known[1])
                continue
            number = first + len(ends)
            numbers.append(number)
            causes += parents
            ends.append(before + len(causes))
            if may_be_barrier:
                if len(barriers) == _MOST_BARRIERS:
                    barriers.clear()
                barriers[id(parents)] = parents, number  # while it is held no other has its id
        self.causes.extend(causes)
        self.causes_end.extend(ends)
        return numbers

    @property
    def parents(self) -> Ints:
        """The spans each waited for, all in one array, shape (num_causes,)."""
        ends = np.array(self.causes_end, dtype=np.int64)
        return expanded(np.array(self.cause, dtype=np.int64), np.array(self.causes, dtype=np.int64), ends)[0]

    @property
    def parents_end(self) -> Ints:
        """Where those of each span end, shape (num_spans,)."""
        ends = np.array(self.causes_end, dtype=np.int64)
        return expanded(np.array(self.cause, dtype=np.int64), np.array(self.causes, dtype=np.int64), ends)[1]


def expanded(which: Ints, members: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return the members of these sets, one set after the other, and where each ends among them.

    Examples
    --------
    >>> expanded(np.array([1, 0, 1]), np.array([7, 8, 9]), np.array([1, 3]))
    (array([8, 9, 7, 8, 9]), array([2, 3, 5]))
    """
    sizes = np.diff(ends, prepend=0)[which]
    until = np.cumsum(sizes)
    within = np.arange(sizes.sum()) - np.repeat(until - sizes, sizes)
    return members[np.repeat(ends[which] - sizes, sizes) + within], until


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
    """All that a run records while it goes.

    Attributes
    ----------
    clients
        Their names, in their order.
    summaries
        Of the rounds so far, where no spans are added.
    """

    def __init__(self) -> None:
        self.spans = SpanLog()
        self.metrics = MetricLog()
        self.grants = GrantLog()
        self.rounds = RoundLog()
        self.clients: Sequence[str] = ()
        self.summaries: Summaries | None = None

    @property
    def num_spans(self) -> int:
        """How many spans there were."""
        return len(self.spans) if self.summaries is None else self.summaries.num_spans
