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


def convergence(record: StudyRecord) -> dict[str, Any]:
    """Return the course of the held-out loss of each case, as plain values.

    Between two evaluations the loss is read off the straight line; a run that
    has ended keeps its last. ``cases`` is empty where nothing was learned.
    """
    courses = _courses(record.path)
    found = []
    for index, case in enumerate(record.cases):
        mine = [course for (name, _), course in sorted(courses.items()) if name == case]
        if not mine:
            continue
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
                "time": at_s.tolist(),
                **{name: end.tolist() for name, end in zip(("mean", "low", "high"), ends, strict=True)},
            }
        )
    return {"cases": found, "shown": _shown(record, found)}


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


def _shown(record: StudyRecord, found: list[dict[str, Any]]) -> list[int]:
    """Return which of the curves to draw: a baseline, and others from the quickest to the slowest."""
    order = sorted(range(len(found)), key=lambda at: found[at]["endS"])
    if len(order) <= MOST_SHOWN:
        return sorted(order)
    spread = np.linspace(0, len(order) - 1, MOST_SHOWN).round().astype(np.int64)
    chosen = [order[at] for at in spread]
    base = [at for at in order if found[at]["case"] in record.compared_with]
    if base and base[0] not in chosen:
        nearest = min(range(1, MOST_SHOWN - 1), key=lambda at: abs(order.index(base[0]) - int(spread[at])))
        chosen[nearest] = base[0]
    return chosen
