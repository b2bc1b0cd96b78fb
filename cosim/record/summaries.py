"""Rounds in short, in the place of their spans: quantiles, outliers, and who was waited for.

What is summed is the same in whatever order its spans are given, so two engines that agree on spans agree
on every byte here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cosim.units import Bools, Floats, Ints

if TYPE_CHECKING:
    import pyarrow

LEVELS = (0, 5, 25, 50, 75, 95, 100)
"""Of the quantiles, per cent; each is the value of one of the spans, the least that reaches the level."""

MOST_OUTLIERS = 10
"""Clients of a round that are named: those that were busy the longest."""

FENCE = 1.5
"""Interquartile ranges above the upper quartile from which on a value is an outlier (J. W. Tukey, 1977)."""

ALL = "client"
"""Name and kind of the rows about all that clients did in a round."""


class Phase(NamedTuple):
    """What spans have in common: name, kind, and at which end a client or which server is."""

    name: str
    kind: str
    sender: str
    receiver: str


@dataclass(frozen=True, eq=False)
class Work:
    """The spans of a round; arrays are of shape (num_spans,).

    Attributes
    ----------
    task, round
        Of which.
    phases, phase
        What there is, and which of it each span is.
    client
        Whose it is, -1 where a server's alone, or several clients'.
    delivered, resent_bits
        Of transfers; True and 0 of what is computed.
    rows, members
        Spans that several clients share, and those clients, pair by pair.
    """

    task: str
    round: int
    phases: Sequence[Phase]
    phase: Ints
    client: Ints
    asked_ns: Ints
    start_ns: Ints
    end_ns: Ints
    bits: Floats
    flop: Floats
    energy_j: Floats
    delivered: Bools
    resent_bits: Floats
    rows: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    members: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def ended_by(self, time_ns: int) -> "Work":
        """Return those spans alone, none of which several clients share, that end at an instant or before."""
        is_over, every = self.end_ns <= time_ns, fields(self)
        arrays = (one.name for one in every if one.name not in ("task", "round", "phases", "rows", "members"))
        return replace(self, **{name: getattr(self, name)[is_over] for name in arrays})


class Summaries:
    """What is kept of the rounds of a run in the place of their spans, round by round.

    Parameters
    ----------
    clients
        Their names, in their order.
    """

    def __init__(self, clients: Sequence[str]) -> None:
        self._clients = tuple(clients)
        self._phases: list[tuple[Any, ...]] = []
        self._outliers: list[tuple[Any, ...]] = []
        self._totals: dict[Phase, _Total] = {}
        self.num_spans = 0

    def add(self, work: Work) -> None:
        """Take in a round, after those before it."""
        work = _in_order(work)
        order = np.lexsort((work.client, work.end_ns, work.start_ns, work.phase))
        self.num_spans += len(order)
        edges = np.searchsorted(work.phase[order], np.arange(len(work.phases) + 1))
        for number, phase in enumerate(work.phases):
            mine = order[edges[number] : edges[number + 1]]
            if len(mine):
                self._add_phase(work, phase, mine)
        self._add_clients(work, order)

    def _add_phase(self, work: Work, phase: Phase, mine: Ints) -> None:
        start_ns, end_ns = work.start_ns[mine], work.end_ns[mine]
        last = int(work.client[mine[int(end_ns.argmax())]])
        sums = (
            fsum(getattr(work, name)[mine].tolist()) for name in ("bits", "flop", "energy_j", "resent_bits")
        )
        _fences, is_outlier = outliers(end_ns - start_ns)
        self._phases.append(
            (
                *(work.task, work.round, *phase, len(mine), int(start_ns.min()), int(end_ns.max())),
                *(covered_ns(start_ns, end_ns), int((end_ns - start_ns).sum())),
                *(self._clients[last] if last >= 0 else "", *sums, int((~work.delivered[mine]).sum())),
                *(quantiles(start_ns), quantiles(end_ns)),
                *(quantiles(end_ns - start_ns), quantiles(start_ns - work.asked_ns[mine])),
                int(is_outlier.sum()),
            )
        )
        self._totals.setdefault(phase, _Total(len(self._clients))).add(work, mine)

    def _add_clients(self, work: Work, order: Ints) -> None:
        """Add what each client did in the round altogether."""
        rows, clients = of_clients(work, order)
        if not len(rows):
            return
        is_compute = np.array([one.kind == "compute" for one in work.phases])[work.phase[rows]]
        lasted, waited = work.end_ns[rows] - work.start_ns[rows], work.start_ns[rows] - work.asked_ns[rows]
        compute_ns, air_ns, wait_ns, end_ns = np.zeros((4, len(self._clients)), dtype=np.int64)
        begin_ns = np.full_like(end_ns, work.asked_ns.max())
        np.add.at(compute_ns, clients[is_compute], lasted[is_compute])
        np.add.at(air_ns, clients[~is_compute], lasted[~is_compute])
        np.add.at(wait_ns, clients, waited)
        np.minimum.at(begin_ns, clients, work.asked_ns[rows])
        np.maximum.at(end_ns, clients, work.end_ns[rows])
        pays = np.array([one.sender == ALL for one in work.phases])[work.phase[order]]
        own = order[pays & (work.client[order] >= 0)]
        energy_j = np.bincount(work.client[own], work.energy_j[own], len(self._clients))
        there = np.flatnonzero(np.bincount(clients, minlength=len(self._clients)))
        busy_ns, begun, ended = (compute_ns + air_ns)[there], begin_ns[there], end_ns[there]
        fence, is_outlier = outliers(busy_ns)
        self._phases.append(
            (
                *(work.task, work.round, ALL, ALL, "", "", len(there), int(begun.min()), int(ended.max())),
                *(covered_ns(begun, ended), int(busy_ns.sum())),
                *(self._clients[int(there[int(ended.argmax())])], 0.0, 0.0, fsum(energy_j[there].tolist())),
                *(0.0, 0, quantiles(begun), quantiles(ended)),
                *(quantiles(busy_ns), quantiles(wait_ns[there]), int(is_outlier.sum())),
            )
        )
        for one in np.lexsort((there, -busy_ns))[:MOST_OUTLIERS].tolist():
            who = int(there[one])
            times = (int(column[who]) for column in (compute_ns, air_ns, wait_ns, end_ns))
            named = (work.task, work.round, self._clients[who], *times)
            self._outliers.append((*named, float(energy_j[who]), bool(busy_ns[one] > fence)))

    def tables(self) -> "dict[str, pyarrow.Table]":
        """Return the tables by their names, as they are stored."""
        totals = [one for phase, total in self._totals.items() for one in total.rows(phase, self._clients)]
        return {
            "phases": _table(_PHASES, self._phases),
            "outliers": _table(_OUTLIERS, self._outliers),
            "totals": _table(_TOTALS, totals),
        }


class _Total:
    """What clients did in one phase over the whole run; arrays of shape (num_clients,)."""

    def __init__(self, num_clients: int) -> None:
        self._num, self._duration_ns, self._wait_ns = np.zeros((3, num_clients), dtype=np.int64)
        self._bits, self._energy_j = np.zeros((2, num_clients))

    def add(self, work: Work, mine: Ints) -> None:
        """Add some spans of a round."""
        rows, clients = of_clients(work, mine)
        self._num += np.bincount(clients, minlength=len(self._num))
        np.add.at(self._duration_ns, clients, work.end_ns[rows] - work.start_ns[rows])
        np.add.at(self._wait_ns, clients, work.start_ns[rows] - work.asked_ns[rows])
        own = mine[work.client[mine] >= 0]
        self._bits += np.bincount(work.client[own], work.bits[own], len(self._num))
        self._energy_j += np.bincount(work.client[own], work.energy_j[own], len(self._num))

    def rows(self, phase: Phase, clients: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield what each client that had a part in it did."""
        there = np.flatnonzero(self._num)
        columns = (self._num, self._duration_ns, self._wait_ns, self._bits, self._energy_j)
        for client, *each in zip(there.tolist(), *(one[there].tolist() for one in columns), strict=True):
            yield clients[client], *phase, *each


def works_of(spans: "pyarrow.Table", clients: Sequence[str]) -> Iterator[Work]:
    """Yield the spans of each round of a run, task by task, in the order of the rounds.

    What several clients send or receive at once is of nobody, and of all of them.
    """
    if not spans.num_rows:
        return
    number = {name: client for client, name in enumerate(clients)}
    words = {name: _words(spans[name]) for name in ("task", "name", "kind", "actor", "peer")}
    phases, phase = _phases(words, number)
    actor, peer = (
        np.array([number.get(one, -1) for one in words[name][0]])[words[name][1]]
        for name in ("actor", "peer")
    )
    columns = {name: spans[name].to_numpy() for name in _OF_SPANS}
    lists = spans["participants"].combine_chunks()
    shared, (members, of_member) = lists.value_parent_indices().to_numpy(), _words(lists.flatten())
    member = np.array([number[one] for one in members], dtype=np.int64)[of_member]
    task, rounds = words["task"][1], spans["round"].to_numpy()
    order = np.lexsort((rounds, task))
    edges = np.flatnonzero(np.diff(task[order]) | np.diff(rounds[order])) + 1
    for mine in np.split(order, edges):
        is_here = np.isin(shared, mine)
        yield Work(
            words["task"][0][int(task[mine[0]])],
            int(rounds[mine[0]]),
            phases,
            phase[mine],
            np.maximum(actor, peer)[mine],
            rows=np.searchsorted(mine, shared[is_here]),
            members=member[is_here],
            **{name: column[mine] for name, column in columns.items()},
        )


def _words(column: Any) -> tuple[list[str], Ints]:
    """Return the words of a column, each once, and which of them each row has."""
    import pyarrow

    encoded = (
        column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    ).dictionary_encode()
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices.to_numpy(), dtype=np.int64)


def _phases(
    words: Mapping[str, tuple[list[str], Ints]], number: Mapping[str, int]
) -> tuple[tuple[Phase, ...], Ints]:
    """Return what spans have in common, and which of it each has."""
    ends = {name: [ALL if one in number else one for one in words[name][0]] for name in ("actor", "peer")}
    kinds: dict[Phase, int] = {}
    codes = np.stack([words[name][1] for name in ("name", "kind", "actor", "peer")])
    for name in ("actor", "peer"):  # all clients are one end
        each = {one: place for place, one in enumerate(dict.fromkeys(ends[name]))}
        codes[2 + (name == "peer")] = np.array([each[one] for one in ends[name]])[words[name][1]]
        ends[name] = list(each)
    found, which = np.unique(codes, axis=1, return_inverse=True)
    place = []
    for name, kind, actor, peer in found.T.tolist():
        both = (ends["actor"][actor], ends["peer"][peer])
        if words["kind"][0][kind] == "transfer":
            both = both[0] or ALL, both[1] or ALL
        phase = Phase(words["name"][0][name], words["kind"][0][kind], *both)
        place.append(kinds.setdefault(phase, len(kinds)))
    return tuple(kinds), np.array(place)[which.ravel()]


def _in_order(work: Work) -> Work:
    """Return a round with its phases in the order in which they begin."""
    begin_ns, end_ns = np.full((2, len(work.phases)), np.iinfo(np.int64).max)
    np.minimum.at(begin_ns, work.phase, work.start_ns)
    np.minimum.at(end_ns, work.phase, work.end_ns)
    order = sorted(range(len(work.phases)), key=lambda one: (begin_ns[one], end_ns[one], work.phases[one]))
    phases = tuple(work.phases[one] for one in order)
    return replace(work, phases=phases, phase=np.argsort(order)[work.phase])


def of_clients(work: Work, rows: Ints) -> tuple[Ints, Ints]:
    """Return the spans among some that clients have a part in, and which clients: one pair for each."""
    own = rows[work.client[rows] >= 0]
    is_among = np.isin(work.rows, rows)
    return np.concatenate([own, work.rows[is_among]]), np.concatenate(
        [work.client[own], work.members[is_among]]
    )


def quantiles(values: Ints) -> list[int]:
    """Return the quantiles of some values at :data:`LEVELS`.

    Examples
    --------
    >>> quantiles(np.array([30, 10, 20, 40]))
    [10, 10, 10, 20, 30, 40, 40]
    """
    places = [max(-(-level * len(values) // 100) - 1, 0) for level in LEVELS]
    return [int(one) for one in np.sort(values)[places]]


def outliers(values: Ints) -> tuple[float, Bools]:
    """Return from which value on one is an outlier, and which are."""
    low, high = (quantiles(values)[LEVELS.index(level)] for level in (25, 75))
    fence = high + FENCE * (high - low)
    return fence, np.asarray(values > fence)


def covered_ns(start_ns: Ints, end_ns: Ints) -> int:
    """Return for how long at least one of some stretches of time went on, ns."""
    order = np.argsort(start_ns, kind="stable")
    start_ns, end_ns = start_ns[order], end_ns[order]
    before = np.maximum.accumulate(np.concatenate([[np.int64(-1)], end_ns[:-1]]))
    return int(np.maximum(end_ns - np.maximum(start_ns, before), 0).sum())


_OF_SPANS = (
    *("asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j"),
    *("delivered", "resent_bits"),
)
COLUMNS = ("task", "name", "kind", "actor", "peer", "round", "participants", *_OF_SPANS)
"""Of the spans, all that summaries are made of."""

_INT, _FLOAT, _WORD, _INTS = "int64", "float64", "string", "list"
_PHASES = {
    **dict.fromkeys(("task",), _WORD),
    "round": _INT,
    **dict.fromkeys(Phase._fields, _WORD),
    **dict.fromkeys(("num_spans", "begin_ns", "end_ns", "covered_ns", "total_ns"), _INT),
    "last": _WORD,
    **dict.fromkeys(("bits", "flop", "energy_j", "resent_bits"), _FLOAT),
    "num_lost": _INT,
    **dict.fromkeys(("starts_ns", "ends_ns", "durations_ns", "waits_ns"), _INTS),
    "num_outliers": _INT,
}
_OUTLIERS = {
    "task": _WORD,
    "round": _INT,
    "client": _WORD,
    **dict.fromkeys(("compute_ns", "air_ns", "wait_ns", "end_ns"), _INT),
    "energy_j": _FLOAT,
    "is_outlier": "bool",
}
_TOTALS = {
    "client": _WORD,
    **dict.fromkeys(Phase._fields, _WORD),
    **dict.fromkeys(("num_spans", "duration_ns", "wait_ns"), _INT),
    **dict.fromkeys(("bits", "energy_j"), _FLOAT),
}


def _table(columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> "pyarrow.Table":
    import pyarrow

    each = zip(*rows, strict=True) if rows else ([] for _ in columns)
    arrays = (
        pyarrow.array(
            list(values),
            type=pyarrow.list_(pyarrow.int64()) if kind == _INTS else pyarrow.type_for_alias(kind),
        )
        for kind, values in zip(columns.values(), each, strict=True)
    )
    return pyarrow.table(dict(zip(columns, arrays, strict=True)))
