"""Two runs span by span and round by round: what corresponds to what, and where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosim.record.summaries import ALL
from cosim.report.rounds import RoundKey, Rounds, round_label, span_keys
from cosim.report.spans import Spans, covered_ns
from cosim.units import Ints

Times = dict[RoundKey, tuple[int | None, int | None, dict[str, int]]]
"""Of each round begin and end, ns, and for how long each phase went on."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which span of one run corresponds to which of another.

    Spans are the same piece of work if task, round, local step, name, actor and peer are
    the same; of several such, the first asked for corresponds to the first.

    Attributes
    ----------
    before, after
        Rows of both runs that correspond to each other, in the order of the first; shape (num_pairs,).
    only_before, only_after
        Rows for which the other run has nothing.
    """

    before: Ints
    after: Ints
    only_before: Ints
    only_after: Ints


@dataclass(frozen=True)
class Parting:
    """Where two timelines part.

    Attributes
    ----------
    time_ns
        The first instant at which something is not the same.
    before, after
        The span it happens to, in both runs; None in the run that does not have it.
    """

    time_ns: int
    before: int | None
    after: int | None


@dataclass(frozen=True)
class RoundPair:
    """One round of both runs; times are (before, after), ns.

    Attributes
    ----------
    round, task
        Its number, and of which task.
    begin_ns, end_ns
        From when to when; None where a run does not have the round.
    phase_ns
        For each name of spans, for how long at least one of them went on.
    """

    round: int
    begin_ns: tuple[int | None, int | None]
    end_ns: tuple[int | None, int | None]
    phase_ns: dict[str, tuple[int, int]]
    task: str = ""

    @property
    def label(self) -> str:
        """What it is called."""
        return round_label(self.task, self.round)

    @property
    def length_ns(self) -> tuple[int, int]:
        """How long it took in either run, ns; 0 where a run does not have it."""
        before, after = (
            0 if begin is None or end is None else end - begin
            for begin, end in zip(self.begin_ns, self.end_ns, strict=True)
        )
        return before, after

    @property
    def change_ns(self) -> int:
        """How much longer it took after, ns."""
        before, after = self.length_ns
        return after - before


def align(before: Spans, after: Spans) -> Pairs:
    """Return which spans of two runs correspond to each other."""
    known = tuple(
        _common(getattr(before, what), getattr(after, what)) for what in ("names", "actors", "tasks")
    )
    both = np.concatenate([_keys(spans, *known) for spans in (before, after)], axis=1)
    number = np.zeros(both.shape[1], dtype=np.int64)
    for column in both:  # numbers stay small however many columns there are
        number = np.unique(number * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    numbers = number[: len(before)], number[len(before) :]
    _, rows_before, rows_after = np.intersect1d(*numbers, assume_unique=True, return_indices=True)
    order = np.argsort(rows_before)
    return Pairs(
        before=rows_before[order],
        after=rows_after[order],
        only_before=np.setdiff1d(np.arange(len(before)), rows_before),
        only_after=np.setdiff1d(np.arange(len(after)), rows_after),
    )


def part(before: Spans, after: Spans, pairs: Pairs | None = None) -> Parting | None:
    """Return where two timelines part; None if they are the same, span for span."""
    pairs = pairs or align(before, after)
    never = np.iinfo(np.int64).max
    parts_ns = np.full(len(pairs.before), never)
    for amounts in ("bits", "flop"):
        differs = getattr(before, amounts)[pairs.before] != getattr(after, amounts)[pairs.after]
        parts_ns[differs] = before.asked_ns[pairs.before][differs]
    for times in ("end_ns", "start_ns", "asked_ns"):  # the earliest one that differs counts
        one, other = getattr(before, times)[pairs.before], getattr(after, times)[pairs.after]
        differs = one != other
        parts_ns[differs] = np.minimum(parts_ns, np.minimum(one, other))[differs]
    candidates = [
        Parting(int(parts_ns[row]), int(pairs.before[row]), int(pairs.after[row]))
        for row in _first(parts_ns)
        if parts_ns[row] < never
    ]
    for row in _first(before.asked_ns[pairs.only_before]):
        span = int(pairs.only_before[row])
        candidates.append(Parting(int(before.asked_ns[span]), span, None))
    for row in _first(after.asked_ns[pairs.only_after]):
        span = int(pairs.only_after[row])
        candidates.append(Parting(int(after.asked_ns[span]), None, span))
    return min(candidates, key=lambda parting: parting.time_ns, default=None)


def pair_rounds(
    before: Spans, after: Spans, rounds_before: Rounds, rounds_after: Rounds
) -> tuple[RoundPair, ...]:
    """Return both runs round by round, as far as the longer one goes."""
    told = _rounds(before, rounds_before), _rounds(after, rounds_after)
    return paired_rounds(*told, _common(before.names, after.names))


def paired_rounds(before: Times, after: Times, names: tuple[str, ...] | None = None) -> tuple[RoundPair, ...]:
    """Return rounds of two runs pair by pair; phases in the order of their names, where those are given."""
    pairs = []
    for task, round_ in sorted(before.keys() | after.keys()):
        (begin, end, phases), (other_begin, other_end, other_phases) = (
            one.get((task, round_), (None, None, {})) for one in (before, after)
        )
        phase_ns = {
            name: (phases.get(name, 0), other_phases.get(name, 0))
            for name in names or _common(tuple(phases), tuple(other_phases))
            if name in phases or name in other_phases
        }
        pairs.append(RoundPair(round_, (begin, other_begin), (end, other_end), phase_ns, task))
    return tuple(pairs)


def phase_times(rows: Sequence[dict[str, Any]], rounds: Rounds) -> Times:
    """Return begin, end and covered time of each phase, ns, for each round, of a run in short."""
    phases: dict[RoundKey, dict[str, int]] = {}
    for one in rows:
        if one["kind"] != ALL:
            of_round = phases.setdefault((one["task"], one["round"]), {})
            of_round[one["name"]] = of_round.get(one["name"], 0) + one["covered_ns"]
    times = zip(rounds.keys, rounds.start_ns.tolist(), rounds.end_ns.tolist(), strict=True)
    return {key: (start_ns, end_ns, phases.get(key, {})) for key, start_ns, end_ns in times}


def _rounds(spans: Spans, rounds: Rounds) -> Times:
    """Return begin, end and covered time of each phase, ns, for each round."""
    phases: dict[RoundKey, dict[str, int]] = {}
    keys = spans.task * (int(spans.round.max(initial=0)) + 1) + spans.round
    order = np.argsort(keys, kind="stable")
    _, begins = np.unique(keys[order], return_index=True)
    for rows in np.split(order, begins[1:]) if len(order) else ():
        (key,) = span_keys(spans, rows[:1])
        phases[key] = {}
        for name in np.unique(spans.name[rows]).tolist():
            mine = rows[spans.name[rows] == name]
            phases[key][spans.names[name]] = covered_ns(spans.start_ns[mine], spans.end_ns[mine])
    times = zip(rounds.keys, rounds.start_ns.tolist(), rounds.end_ns.tolist(), strict=True)
    return {key: (start_ns, end_ns, phases.get(key, {})) for key, start_ns, end_ns in times}


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _keys(spans: Spans, names: tuple[str, ...], actors: tuple[str, ...], tasks: tuple[str, ...]) -> Ints:
    """Return what each span is, in numbers from 0 that mean the same in both runs, shape (7, num_spans)."""
    task = np.array([tasks.index(one) for one in spans.tasks], dtype=np.int64)
    name = np.array([names.index(one) for one in spans.names], dtype=np.int64)
    actor = np.array([*(actors.index(one) + 1 for one in spans.actors), 0], dtype=np.int64)
    who = actor[spans.actor], actor[spans.peer]
    keys = np.stack([task[spans.task], spans.round, spans.local_step, name[spans.name], *who])
    order = np.lexsort((spans.asked_ns, *keys))
    is_new = np.append(True, (keys[:, order[1:]] != keys[:, order[:-1]]).any(axis=0))[: len(spans)]
    position = np.arange(len(spans))
    turn = np.empty(len(spans), dtype=np.int64)
    turn[order] = position - np.maximum.accumulate(np.where(is_new, position, 0))
    return np.concatenate([keys, turn[None]])


def _first(times_ns: Ints) -> list[int]:
    """Return where the smallest of some instants is; nothing if there is none."""
    return [int(times_ns.argmin())] if len(times_ns) else []
