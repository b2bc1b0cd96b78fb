"""How the loss falls in simulated time, case by case, with bands over the replications."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosim.report.study.record import StudyRecord, table_of
from cosim.units import Floats

_NUM_POINTS = 160
MOST_SHOWN = 6
"""As many curves as the eye can keep apart."""

_MOST_KEPT = 60


def convergence(record: StudyRecord) -> dict[str, Any]:
    """Return the course of the held-out loss of each case, as plain values.

    Between two evaluations the loss is read off the straight line; a run that
    has ended keeps its last. ``cases`` is empty where nothing was learned.
    """
    of: dict[tuple[str, str], list[tuple[Floats, Floats]]] = {}
    for (name, task, _), course in sorted(_courses(record.path).items()):
        of.setdefault((name, task), []).append(course)
    ends_s: dict[str, float] = {}
    for (name, _), mine in of.items():
        ends_s[name] = max(ends_s.get(name, 0.0), *(float(times[-1]) for times, _ in mine))
    numbers = [index for index, case in enumerate(record.cases) if case in ends_s]
    found: list[dict[str, Any]] = []
    for index in sorted(_spread(record, numbers, [ends_s[record.cases[one]] for one in numbers], _MOST_KEPT)):
        tasks = [task for name, task in of if name == record.cases[index]]
        found += [_band(record, index, task, of[record.cases[index], task]) for task in tasks]
    kept = list(dict.fromkeys(one["case"] for one in found))
    shown = _spread(record, kept, [ends_s[record.cases[one]] for one in kept], MOST_SHOWN)
    places = [at for case in shown for at, one in enumerate(found) if one["case"] == case]
    return {"cases": found, "shown": places, "of": len(numbers)}


def _band(
    record: StudyRecord, index: int, task: str, mine: Sequence[tuple[Floats, Floats]]
) -> dict[str, Any]:
    """Return the mean course of a task in a case, with its interval."""
    end_s = max(float(times[-1]) for times, _ in mine)
    at_s = np.linspace(0.0, end_s, _NUM_POINTS)
    at_s = at_s[at_s >= max(float(times[0]) for times, _ in mine)]
    losses = np.stack([np.interp(at_s, times, values) for times, values in mine], axis=-1)
    ends = zip(("mean", "low", "high"), record.interval(losses), strict=True)
    return {
        "case": index,
        "task": task,
        "n": len(mine),
        "endS": end_s,
        "time": _brief(at_s),
        **{name: _brief(end) for name, end in ends},
    }


def _brief(values: Floats) -> list[float]:
    """Return values with the six digits a picture can show."""
    return [float(f"{value:.6g}") for value in values]


def _courses(path: Path) -> dict[tuple[str, str, int], tuple[Floats, Floats]]:
    """Return instants and losses of every run, by case, task and replication."""
    table = table_of(path, "curves")
    if "task" not in table.column_names:  # of a version whose scenarios had one task
        table = table.append_column("task", [[""] * table.num_rows])
    rows: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    named = ("case", "task", "replication", "simulated_s", "eval_loss")
    for case, task, replication, time_s, loss in zip(*(table[one].to_pylist() for one in named), strict=True):
        if loss is not None and np.isfinite(loss):
            rows.setdefault((case, task, replication), []).append((time_s, loss))
    courses = ((key, np.array(sorted(mine), dtype=np.float64)) for key, mine in rows.items())
    return {key: (course[:, 0], course[:, 1]) for key, course in courses}


def _spread(record: StudyRecord, cases: list[int], ends_s: list[float], most: int) -> list[int]:
    """Return so many of the cases: a baseline, and others from the quickest to the slowest."""
    if len(cases) <= most:
        return cases
    order = [cases[at] for at in np.argsort(ends_s, kind="stable")]
    spread = np.linspace(0, len(order) - 1, most).round().astype(np.int64)
    chosen = [order[at] for at in spread]
    base = next((case for case in order if case in record.compared_with), None)
    if base is not None and base not in chosen:
        place = order.index(base)
        chosen[min(range(1, most - 1), key=lambda at: abs(place - int(spread[at])))] = base
    return chosen
