"""Two runs side by side: what changed from the first to the second, by how much, and since when."""

from dataclasses import dataclass

import numpy as np

from cosim.record.folder import Record
from cosim.report.summary import LossLevel, Summary, held_out_losses, loss_levels, reached, summarise

_DECISIVE = ("name", "actor", "peer", "round", "local_step", "asked_ns", "start_ns", "end_ns", "bits", "flop")


@dataclass(frozen=True)
class Divergence:
    """The first span, in order of ending, that is not the same in both runs."""

    time_ns: int
    round: int
    local_step: int
    before: str
    after: str


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
    other_rounds
        Rounds in which something else was learned; empty if the channel
        changed only when things were learned, and None where a run learned nothing.
    computed, recalled
        Works of the second run that were computed anew, and whose value the store had.
    """

    before: Summary
    after: Summary
    levels: tuple[tuple[LossLevel, LossLevel], ...]
    divergence: Divergence | None
    other_rounds: tuple[int, ...] | None
    computed: int
    recalled: int


def compare(before: Record, after: Record) -> Comparison:
    """Return what changed from one run to the other.

    Raises
    ------
    RecordError
        If a table of either cannot be read.
    """
    works = after.manifest.get("works", {})
    return Comparison(
        before=summarise(before),
        after=summarise(after),
        levels=_levels(before, after),
        divergence=_divergence(before, after),
        other_rounds=_other_rounds(before, after),
        computed=works.get("computed", 0),
        recalled=works.get("recalled", 0),
    )


def _levels(before: Record, after: Record) -> tuple[tuple[LossLevel, LossLevel], ...]:
    courses = [held_out_losses(record) for record in (before, after)]
    if not all(courses):
        return ()
    first = max(course[0][2] for course in courses)
    best = max(min(loss for *_, loss in course) for course in courses)
    return tuple(
        (reached(courses[0], level), reached(courses[1], level)) for level in loss_levels(first, best)
    )


def _divergence(before: Record, after: Record) -> Divergence | None:
    tables = [record.spans.select(_DECISIVE).to_pydict() for record in (before, after)]
    lengths = [len(table["name"]) for table in tables]
    common = min(lengths)
    differs = np.zeros(common, dtype=bool)
    for name in _DECISIVE:
        columns = [np.asarray(table[name][:common], dtype=object) for table in tables]
        differs |= np.asarray(columns[0] != columns[1], dtype=bool)
    if not differs.any() and lengths[0] == lengths[1]:
        return None
    row = int(differs.argmax()) if differs.any() else common
    told = [_told(table, row) for table in tables]
    table = tables[0] if row < lengths[0] else tables[1]
    return Divergence(table["start_ns"][row], table["round"][row], table["local_step"][row], *told)


def _told(table: dict[str, list[object]], row: int) -> str:
    if row >= len(table["name"]):
        return "the run has ended"
    name, actor, end_ns = (table[column][row] for column in ("name", "actor", "end_ns"))
    return f"{name} of {actor} ends at {float(str(end_ns)) / 1e9:.9g} s"


def _other_rounds(before: Record, after: Record) -> tuple[int, ...] | None:
    learned = [_learned(record) for record in (before, after)]
    if not all(learned):
        return None
    rounds = {
        key[0] for key in learned[0].keys() | learned[1].keys() if learned[0].get(key) != learned[1].get(key)
    }
    return tuple(sorted(rounds))


def _learned(record: Record) -> dict[tuple[int, int, str, str], float]:
    """Return every learned value by round, step, actor and name."""
    rows = record.metrics.to_pydict()
    columns = zip(*(rows[name] for name in ("round", "local_step", "actor", "name", "value")), strict=True)
    return {
        (round_, local_step, actor, name): value
        for round_, local_step, actor, name, value in columns
        if name.startswith(("train_", "eval_"))
    }
