"""The spans of a record as arrays, and how much time a set of them covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cosim.record.folder import Record
from cosim.units import NS_PER_S, Floats, Ints

Chosen = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Spans:
    """What reports read of ``spans.parquet``; arrays are of shape (num_spans,).

    Attributes
    ----------
    names, actors
        Names in the order in which they first begin; everybody who acts or is
        sent something: clients by number, then the servers.
    name, actor, peer
        Indices into them; ``peer`` is -1 for whoever computes.
    is_transfer
        Which spans were on the air.
    round, asked_ns, start_ns, end_ns, bits, flop, energy_j
        As recorded.
    """

    names: tuple[str, ...]
    actors: tuple[str, ...]
    name: Ints
    actor: Ints
    peer: Ints
    is_transfer: Chosen
    round: Ints
    asked_ns: Ints
    start_ns: Ints
    end_ns: Ints
    bits: Floats
    flop: Floats
    energy_j: Floats

    @classmethod
    def of(cls, record: Record) -> "Spans":
        """Return the spans of a run.

        Raises
        ------
        RecordError
            If they cannot be read.
        """
        table = record.spans
        words = {name: table[name].to_pylist() for name in ("kind", "name", "actor", "peer")}
        numbers = ("round", "asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j")
        columns = {name: table[name].to_numpy() for name in numbers}
        by_begin = np.argsort(columns["start_ns"], kind="stable").tolist()
        names = tuple(dict.fromkeys(words["name"][row] for row in by_begin))
        actors = tuple(sorted((set(words["actor"]) | set(words["peer"])) - {""}, key=_by_number))
        return cls(
            names=names,
            actors=actors,
            name=_indices(words["name"], names),
            actor=_indices(words["actor"], actors),
            peer=_indices(words["peer"], actors),
            is_transfer=np.array([kind == "transfer" for kind in words["kind"]], dtype=np.bool_),
            **columns,
        )

    def __len__(self) -> int:
        return len(self.name)

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
        """Which client computes, sends or receives, as an index into ``actors``; -1 for servers alone."""
        count = len(self.clients)
        return np.asarray(
            np.where(self.actor < count, self.actor, np.where(self.peer < count, self.peer, -1))
        )

    def of_actor(self, actor: int) -> Chosen:
        """Return which spans an actor computes, sends or receives, shape (num_spans,)."""
        return np.asarray((self.actor == actor) | (self.peer == actor))

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


def _indices(words: Sequence[str], known: tuple[str, ...]) -> Ints:
    number = {word: index for index, word in enumerate(known)}
    return np.array([number.get(word, -1) for word in words], dtype=np.int64)


def _by_number(actor: str) -> tuple[int, int, str]:
    name, _, number = actor.rpartition("-")
    return (0, int(number), name) if is_client(actor) and number.isdigit() else (1, 0, actor)
