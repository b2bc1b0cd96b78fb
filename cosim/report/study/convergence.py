"""How the loss falls in simulated time, case by case, with bands over the replications."""

from itertools import pairwise
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
    courses = _courses(record.path)
    of: dict[str, list[tuple[Floats, Floats]]] = {}
    for (name, _), course in sorted(courses.items()):
        of.setdefault(name, []).append(course)
    ends_s = {case: max(float(times[-1]) for times, _ in mine) for case, mine in of.items()}
    numbers = [index for index, case in enumerate(record.cases) if case in of]
    found: list[dict[str, Any]] = []
    for index in sorted(_spread(record, numbers, [ends_s[record.cases[one]] for one in numbers], _MOST_KEPT)):
        mine = of[record.cases[index]]
        end_s = max(float(times[-1]) for times, _ in mine)
        at_s = np.linspace(0.0, end_s, _NUM_POINTS)
        begin_s = max(float(times[0]) for times, _ in mine)
        at_s = at_s[at_s >= begin_s]
        losses = np.stack([np.interp(at_s, times, values) for times, values in mine], axis=-1)
        ends = record.interval(losses)
        found.append(
            {
                "case": index,
                "n": len(mine),
                "endS": end_s,
                "time": _brief(at_s),
                **{name: _brief(end) for name, end in zip(("mean", "low", "high"), ends, strict=True)},
            }
        )
    places = {one["case"]: at for at, one in enumerate(found)}
    shown = _spread(record, list(places), [float(one["endS"]) for one in found], MOST_SHOWN)
    return {"cases": found, "shown": [places[one] for one in shown], "of": len(numbers)}


def _brief(values: Floats) -> list[float]:
    """Return values with the six digits a picture can show."""
    return [float(f"{value:.6g}") for value in values]


def _courses(path: Path) -> dict[tuple[str, int], tuple[Floats, Floats]]:
    """Return instants and losses of every run, by case and replication."""
    table = table_of(path, "curves").sort_by(
        [("case", "ascending"), ("replication", "ascending"), ("simulated_s", "ascending")]
    )
    names = np.array(table["case"].to_pylist(), dtype=np.str_)
    replications = table["replication"].to_numpy()
    times = np.asarray(table["simulated_s"].to_numpy(), dtype=np.float64)
    losses = np.asarray(table["eval_loss"].to_numpy(), dtype=np.float64)
    keep = np.isfinite(losses)
    names, replications, times, losses = names[keep], replications[keep], times[keep], losses[keep]
    if not len(names):
        return {}
    new = np.flatnonzero((names[1:] != names[:-1]) | (replications[1:] != replications[:-1])) + 1
    edges = [0, *new.tolist(), len(names)]
    return {
        (str(names[begin]), int(replications[begin])): (times[begin:end], losses[begin:end])
        for begin, end in pairwise(edges)
    }


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
