"""The spans of a record as arrays, and how much time a set of them covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.record.log import expanded
from cosim.units import NS_PER_S, Floats, Ints

Chosen = NDArray[np.bool_]


_COLUMNS = (
    *("cause", "kind", "name", "actor", "peer", "round", "local_step", "asked_ns", "start_ns", "end_ns"),
    *("bits", "flop", "energy_j", "task", "delivered", "resent_bits", "participants"),
)


@dataclass(frozen=True, eq=False)
class Spans:
    """What reports read of ``spans.parquet``; arrays are of shape (num_spans,).

    Attributes
    ----------
    names, actors
        Names in the order in which they first begin; everybody who acts or is
        sent something: clients by number, then the servers.
    name, actor, peer
        Indices into them; ``peer`` is -1 of a computation. Where several clients send or
        receive at once ``actor`` is the server and ``peer`` -1.
    is_transfer
        Which spans were on the air.
    task
        Indices into ``tasks``.
    round, local_step, asked_ns, start_ns, end_ns, bits, flop, energy_j
        As recorded.
    cause
        The number of the set of spans that each waited for.
    causes, causes_end
        The spans of these sets, all in one array; those of set ``i`` end before ``causes_end[i]`` and begin
        where those of the set before end. Behind a barrier all wait for one set.
    delivered, resent_bits
        As recorded.
    is_superposed
        Which transfers had several senders.
    participants, participants_end
        The clients in each transfer with several senders or receivers, as indices into
        ``actors``, all in one array as the parents are.
    """

    names: tuple[str, ...]
    actors: tuple[str, ...]
    name: Ints
    actor: Ints
    peer: Ints
    is_transfer: Chosen
    task: Ints
    round: Ints
    local_step: Ints
    asked_ns: Ints
    start_ns: Ints
    end_ns: Ints
    bits: Floats
    flop: Floats
    energy_j: Floats
    cause: Ints
    causes: Ints
    causes_end: Ints
    tasks: tuple[str, ...]
    delivered: Chosen
    resent_bits: Floats
    is_superposed: Chosen
    participants: Ints
    participants_end: Ints

    @classmethod
    def of(cls, record: Record) -> "Spans":
        """Return the spans of a run.

        Raises
        ------
        RecordError
            If they cannot be read, or name causes that are not before them.
        """
        table = record.columns("spans", _COLUMNS)
        words = {name: _words(table[name]) for name in ("kind", "name", "actor", "peer")}
        numbers = ("round", "local_step", "asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j")
        columns = {name: table[name].to_numpy() for name in (*numbers, "delivered", "resent_bits")}
        names = _in_order_of_begin(*words["name"], columns["start_ns"])
        clients, participants_end = _lists(table["participants"])
        members = _words(clients)
        known = {*words["actor"][0], *words["peer"][0], *members[0]} - {""}
        actors = tuple(sorted(known, key=_by_number))
        cause, (causes, causes_end) = table["cause"].to_numpy(), _lists(record.causes["parents"])
        causes = causes.to_numpy()
        _refuse_later_causes(record, cause, causes, causes_end)
        tasks, task = _words(table["task"])
        actor, peer = (_indices(*words[name], actors) for name in ("actor", "peer"))
        is_joint = np.diff(participants_end, prepend=0) > 0
        is_superposed = is_joint & (actor < 0)
        actor = np.where(is_superposed, peer, actor)
        _refuse_without_actor(record, actor < 0)
        return cls(
            names=names,
            actors=actors,
            name=_indices(*words["name"], names),
            actor=actor,
            peer=np.where(is_joint, -1, peer),
            tasks=tuple(tasks),
            task=task,
            is_superposed=is_superposed,
            participants=_indices(*members, actors),
            participants_end=participants_end,
            is_transfer=np.asarray(_indices(*words["kind"], ("transfer",)) == 0),
            cause=cause,
            causes=causes,
            causes_end=causes_end,
            **columns,
        )

    def __len__(self) -> int:
        return len(self.name)

    def parents_of(self, first: int, last: int) -> tuple[Ints, Ints]:
        """Return a span of some, and one it waited for, of each such pair."""
        parents, ends = expanded(self.cause[first:last], self.causes, self.causes_end)
        return np.repeat(np.arange(first, last), np.diff(ends, prepend=0)), parents

    @cached_property
    def num_parents(self) -> Ints:
        """How many spans each waited for, shape (num_spans,)."""
        return np.asarray(np.diff(self.causes_end, prepend=0)[self.cause])

    @cached_property
    def duration_ns(self) -> Ints:
        """From start to end, ns, shape (num_spans,); waiting before the start is not in it."""
        return np.asarray(self.end_ns - self.start_ns)

    @property
    def clients(self) -> tuple[str, ...]:
        """The clients, which come first among the actors."""
        return tuple(actor for actor in self.actors if is_client(actor))

    @cached_property
    def client(self) -> Ints:
        """Which client computes, sends or receives, as an index into ``actors``.

        -1 for servers alone, and where several clients do.
        """
        count = len(self.clients)
        return np.asarray(
            np.where(self.actor < count, self.actor, np.where(self.peer < count, self.peer, -1))
        )

    @cached_property
    def is_joint(self) -> Chosen:
        """Which transfers had several senders or several receivers."""
        return np.asarray(np.diff(self.participants_end, prepend=0) > 0)

    @cached_property
    def of_clients(self) -> tuple[Ints, Ints]:
        """Every pair of a span and a client in it, by span: rows, and indices into ``actors``."""
        own = np.flatnonzero(self.client >= 0)
        whose = np.repeat(np.arange(len(self)), np.diff(self.participants_end, prepend=0))
        rows = np.concatenate([own, whose])
        order = np.argsort(rows, kind="stable")
        return rows[order], np.concatenate([self.client[own], self.participants])[order]

    def participants_of(self, span: int) -> list[str]:
        """Return the clients in a transfer with several senders or receivers; none for any other span."""
        begin = int(self.participants_end[span - 1]) if span else 0
        return [self.actors[one] for one in self.participants[begin : int(self.participants_end[span])]]

    @cached_property
    def links(self) -> tuple[str, ...]:
        """The links transfers go over, such as ``main_uplink``, in order of their names."""
        return tuple(sorted({self._link_of(*pair) for pair in self._pairs[0]}))

    @cached_property
    def link(self) -> Ints:
        """Which link a span goes over, as an index into ``links``; -1 for what is computed."""
        pairs, which = self._pairs
        found = np.full(len(self), -1, dtype=np.int64)
        of_pair = [self.links.index(self._link_of(*pair)) for pair in pairs]
        found[self.is_transfer] = np.array(of_pair, dtype=np.int64)[which]
        return found

    @cached_property
    def _pairs(self) -> tuple[list[tuple[int, int]], Ints]:
        """Which server, and whether it is sent to, each pair once, and which of them each transfer has."""
        rows = np.flatnonzero(self.is_transfer)
        by_client = self.actor[rows] < len(self.clients)
        server = np.where(by_client, self.peer[rows], self.actor[rows])
        is_uplink = by_client | self.is_superposed[rows]
        different, which = np.unique(2 * server + is_uplink, return_inverse=True)
        return [divmod(one, 2) for one in different.tolist()], which

    def _link_of(self, server: int, is_uplink: int) -> str:
        return f"{self.actors[server].removesuffix('-server')}_{'uplink' if is_uplink else 'downlink'}"

    def covered_ns(self, chosen: Chosen) -> int:
        """Return for how long at least one of the chosen spans goes on, ns."""
        return covered_ns(self.start_ns[chosen], self.end_ns[chosen])


def is_client(actor: str) -> bool:
    """Return whether an actor is a client."""
    return actor.startswith("client-")


def length_ns(record: Record, spans: Spans) -> int:
    """Return how long a run lasted, ns; a failed one, as far as it came."""
    last = int(spans.end_ns.max()) if len(spans) else 0
    return max(last, round(float(record.manifest.get("simulated_s", 0.0)) * NS_PER_S))


def covered_ns(start_ns: Ints, end_ns: Ints) -> int:
    """Return the length of the union of intervals, ns.

    Examples
    --------
    >>> covered_ns(np.array([0, 5, 20]), np.array([10, 12, 21]))
    13
    """
    if not len(start_ns):
        return 0
    order = np.argsort(start_ns, kind="stable")
    starts, ends = start_ns[order], end_ns[order]
    reached = np.maximum.accumulate(ends)
    before = np.concatenate([starts[:1], reached[:-1]])
    return int(np.maximum(ends - np.maximum(starts, before), 0).sum())


def _words(column: Any) -> tuple[list[str], Ints]:
    """Return the different words of a column, and which of them each row has."""
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    encoded = whole.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _in_order_of_begin(words: Sequence[str], which: Ints, start_ns: Ints) -> tuple[str, ...]:
    seen, first = np.unique(which[np.argsort(start_ns, kind="stable")], return_index=True)
    return tuple(words[word] for word in seen[np.argsort(first)].tolist())


def _indices(words: Sequence[str], which: Ints, known: tuple[str, ...]) -> Ints:
    """Return each row's word as an index into ``known``, -1 where it is not there."""
    number = {word: index for index, word in enumerate(known)}
    return np.array([number.get(word, -1) for word in words], dtype=np.int64)[which]


def _lists(column: Any) -> tuple[Any, Ints]:
    """Return the members of all lists of a column, one after the other, and where those of each row end."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten(), np.asarray(offsets[1:] - offsets[0])


def _refuse_without_actor(record: Record, wrong: Chosen) -> None:
    """Refuse a record in which nobody does a thing."""
    if wrong.any():
        raise RecordError(
            f"{record.path}/spans.parquet: span {int(wrong.argmax())} names nobody who acts; "
            "the record is damaged: run the scenario again."
        )


def _refuse_later_causes(record: Record, cause: Ints, causes: Ints, causes_end: Ints) -> None:
    """Refuse a record in which something waits for what comes later."""
    sizes = np.diff(causes_end, prepend=0)
    if len(cause) and not 0 <= int(cause.min()) <= int(cause.max()) < len(sizes):
        raise RecordError(
            f"{record.path}/spans.parquet: names causes that causes.parquet has not; "
            "the record is damaged: run the scenario again."
        )
    first = np.full(len(sizes), len(cause))
    np.minimum.at(first, cause, np.arange(len(cause)))  # who waits first for each set
    whose = np.repeat(first, sizes)
    wrong = np.flatnonzero((causes < 0) | (causes >= whose))
    if len(wrong):
        raise RecordError(
            f"{record.path}/spans.parquet: span {whose[wrong[0]]} waits for span {causes[wrong[0]]}, "
            "which does not come before it; the record is damaged: run the scenario again."
        )


def _by_number(actor: str) -> tuple[int, int, str]:
    name, _, number = actor.rpartition("-")
    return (0, int(number), name) if is_client(actor) and number.isdigit() else (1, 0, actor)
