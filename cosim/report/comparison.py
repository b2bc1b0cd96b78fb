"""Two runs side by side: what changed from the first to the second, by how much, and since when."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isnan
from typing import Any

from cosim.errors import RecordError
from cosim.leaves import differing, written_long
from cosim.record.folder import Record
from cosim.report.alignment import RoundPair, pair_rounds, paired_rounds, part, phase_times
from cosim.report.attribution import Attribution, attribute
from cosim.report.learning import LossLevel, held_out_losses, loss_levels, reached
from cosim.report.outcome import Summary
from cosim.report.quantities import count
from cosim.report.rounds import Rounds, round_label
from cosim.report.short import phases_of
from cosim.report.spans import Spans, length_ns
from cosim.report.summary import summarise
from cosim.units import NS_PER_S
from cosim.words import clipped, shown

_MOST_SETTINGS = 12


@dataclass(frozen=True)
class Divergence:
    """The first instant at which something is not the same, and the span it happens to in both runs."""

    time_ns: int
    round: int
    local_step: int
    before: str
    after: str
    task: str = ""

    @property
    def place(self) -> str:
        """Where in the training it is."""
        step = f", local step {self.local_step}" if self.local_step else ""
        return f"{round_label(self.task, self.round)}{step}"


@dataclass(frozen=True)
class Comparison:
    """What changed from one run to another.

    Attributes
    ----------
    before, after
        Both runs in short.
    levels
        Held-out losses both fall to, and when each got there first.
    divergence
        Where the timelines part; None if they are the same.
    other_learning
        By task the rounds in which something else was learned; none of a task if the channel
        changed only when things were learned. None where a run learned nothing.
    rounds
        Both runs round by round.
    attributions
        Where the time of both went.
    computed, recalled
        Nodes of the second run that were computed again, and whose value the store had.
    settings
        Settings in which the two differ, by path, with both values; None where a run has none.
    """

    before: Summary
    after: Summary
    levels: tuple[tuple[LossLevel, LossLevel], ...]
    divergence: Divergence | None
    other_learning: Mapping[str, tuple[int, ...]] | None
    rounds: tuple[RoundPair, ...]
    attributions: tuple[Attribution, Attribution]
    computed: int
    recalled: int
    settings: Mapping[str, tuple[Any, Any]]

    @property
    def other_rounds(self) -> tuple[int, ...] | None:
        """Rounds in which something else was learned, whatever the task."""
        if self.other_learning is None:
            return None
        return tuple(sorted({one for rounds in self.other_learning.values() for one in rounds}))


def compare(before: Record, after: Record) -> Comparison:
    """Return what changed from one run to the other.

    Raises
    ------
    RecordError
        If a table of either cannot be read.
    """
    works = after.manifest.get("works", {})
    if before.is_short or after.is_short:
        return _in_short(before, after)
    spans = Spans.of(before), Spans.of(after)
    rounds = (
        Rounds.of(one, length_ns(one, of_one)) for one, of_one in zip((before, after), spans, strict=True)
    )
    return Comparison(
        before=summarise(before),
        after=summarise(after),
        levels=_levels(before, after),
        divergence=_divergence(*spans),
        other_learning=_other_learning(before, after),
        rounds=pair_rounds(*spans, *rounds),
        attributions=(attribute(before, spans[0]), attribute(after, spans[1])),
        computed=works.get("computed", 0),
        recalled=works.get("recalled", 0),
        settings=_differing(before, after),
    )


def _in_short(before: Record, after: Record) -> Comparison:
    """Return what changed between two runs of which one keeps no spans: rounds are compared by phase."""
    summaries = summarise(before), summarise(after)
    rows = phases_of(before), phases_of(after)
    records = zip((before, after), summaries, rows, strict=True)
    times = [phase_times(each, Rounds.of(one, told.length_ns)) for one, told, each in records]
    works = after.manifest.get("works", {})
    return Comparison(
        before=summaries[0],
        after=summaries[1],
        levels=_levels(before, after),
        divergence=_divergence_in_short(*rows),
        other_learning=_other_learning(before, after),
        rounds=paired_rounds(times[0], times[1]),
        attributions=(
            Attribution(summaries[0].length_ns, (), (), {}),
            Attribution(summaries[1].length_ns, (), (), {}),
        ),
        computed=works.get("computed", 0),
        recalled=works.get("recalled", 0),
        settings=_differing(before, after),
    )


def _divergence_in_short(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> Divergence | None:
    """Return the first phase of a round that is not the same."""
    pair = next((both for both in zip_longest(before, after) if both[0] != both[1]), None)
    if pair is None:
        return None
    one = next(row for row in pair if row is not None)
    was, now = ("nothing of the kind" if row is None else _told_phase(row) for row in pair)
    return Divergence(one["begin_ns"], one["round"], 0, was, now, one["task"])


def _told_phase(row: dict[str, Any]) -> str:
    begin_s, end_s = (row[name] / NS_PER_S for name in ("begin_ns", "end_ns"))
    return f"{count(row['num_spans'])} x {row['name']} from {begin_s:.9g} s to {end_s:.9g} s"


def compare_all(runs: Sequence[Record]) -> tuple[Comparison, ...]:
    """Return what changed from the first run to each of the others.

    Raises
    ------
    RecordError
        If there are not at least two runs, or a table of one cannot be read.
    """
    if len(runs) < 2:
        raise RecordError(f"a comparison needs at least two runs, got {len(runs)}.")
    return tuple(compare(runs[0], other) for other in runs[1:])


def differences(settings: Mapping[str, tuple[Any, Any]]) -> str:
    """Return in a line how settings differ, given as in :class:`Comparison`.

    Examples
    --------
    >>> differences({"radio.fading.k_factor": (3.0, None), "seed": (1, 2)})
    'radio.fading.k_factor 3 -> (left out); seed 1 -> 2'
    """
    told = [f"{clipped(path)} {_value(was)} -> {_value(now)}" for path, (was, now) in settings.items()]
    more = f"; and {count(len(told) - _MOST_SETTINGS)} more" if len(told) > _MOST_SETTINGS else ""
    return "; ".join(told[:_MOST_SETTINGS]) + more


def _value(value: Any) -> str:
    return "(left out)" if value is None else clipped(shown(value))


def _differing(before: Record, after: Record) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, both in the long form where one of them is."""
    was, now = _settings(before), _settings(after)
    if ("trainable" in was) != ("trainable" in now):
        was, now = written_long(was), written_long(now)
    return differing(was, now)


def _settings(record: Record) -> dict[str, Any]:
    """Return the scenario of a run but for its names, which change nothing."""
    try:
        written = tomllib.loads(record.scenario_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise RecordError(f"{record.scenario_path}: cannot be read: {fault}.") from None
    if not written.get("events"):
        written.pop("events", None)  # or the first of the other run's would be told of twice
    written.setdefault("record", "summary" if record.is_short else "spans")  # a default is not written out
    return {name: value for name, value in written.items() if name not in ("name", "description")}


def _levels(before: Record, after: Record) -> tuple[tuple[LossLevel, LossLevel], ...]:
    courses = [held_out_losses(record) for record in (before, after)]
    levels = []
    for task in (one for one in courses[0] if one in courses[1]):
        was, now = (course[task] for course in courses)
        best = max(min(loss for *_, loss in course) for course in (was, now))
        falls = loss_levels(max(was[0][2], now[0][2]), best)
        levels += [(reached(was, level, task), reached(now, level, task)) for level in falls]
    return tuple(levels)


def _divergence(before: Spans, after: Spans) -> Divergence | None:
    parting = part(before, after)
    if parting is None:
        return None
    spans, row = (before, parting.before) if parting.before is not None else (after, parting.after)
    assert row is not None
    return Divergence(
        time_ns=parting.time_ns,
        round=int(spans.round[row]),
        task=spans.tasks[spans.task[row]],
        local_step=int(spans.local_step[row]),
        before=_told(before, parting.before),
        after=_told(after, parting.after),
    )


def _told(spans: Spans, row: int | None) -> str:
    if row is None:
        return "nothing of the kind"
    name, actor, end_ns = spans.names[spans.name[row]], spans.actors[spans.actor[row]], spans.end_ns[row]
    to = f" to {spans.actors[spans.peer[row]]}" if spans.peer[row] >= 0 else ""
    if spans.is_joint[row]:
        way = "from" if spans.is_superposed[row] else "to"
        clients = spans.participants_of(row)
        to = f" {way} {clients[0] if len(clients) == 1 else f'{count(len(clients))} clients'}"
    return f"{name} of {actor}{to} from {spans.start_ns[row] / NS_PER_S:.9g} s to {end_ns / NS_PER_S:.9g} s"


def _other_learning(before: Record, after: Record) -> dict[str, tuple[int, ...]] | None:
    learned = [_learned(record) for record in (before, after)]
    if not all(learned):
        return None
    found: dict[str, set[int]] = {}
    for key in learned[0].keys() | learned[1].keys():
        rounds = found.setdefault(key[1], set())
        if not _is_same(learned[0].get(key), learned[1].get(key)):
            rounds.add(key[0])
    return {task: tuple(sorted(found[task])) for task in sorted(found)}


def _is_same(before: float | None, after: float | None) -> bool:
    """Return whether two values are the same; two that are not a number are."""
    if before is None or after is None:
        return False
    return before == after or (isnan(before) and isnan(after))


def _learned(record: Record) -> dict[tuple[int, str, int, str, str], float]:
    """Return every learned value by round, task, step, actor and name."""
    rows = record.metrics.to_pydict()
    named = ("round", "task", "local_step", "actor", "name", "value")
    columns = zip(*(rows[name] for name in named), strict=True)
    return {
        (round_, task, local_step, actor, name): value
        for round_, task, local_step, actor, name, value in columns
        if name.startswith(("train_", "eval_"))
    }
