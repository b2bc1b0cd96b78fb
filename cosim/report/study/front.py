"""Choices no other beats: two measures against each other."""

from typing import Any

import numpy as np

from cosim.report.study.record import StudyRecord
from cosim.statistics.pareto import pareto_front
from cosim.units import Floats

_LESS, _MORE = ("loss", "perplexity", "gap"), ("accuracy",)
"""Words in the name of a metric, of which the study itself cannot say what is better."""


def fronts(record: StudyRecord, measures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the front of the first measure that varies against each of the others that do.

    A case is on the front by the means of its replications; ``cases`` are its
    members, from the least of the first measure on.
    """
    signs = [_sign(one["name"], record.better[one["name"]]) for one in measures]
    varying = [
        at
        for at, one in enumerate(measures)
        if signs[at] and one["differs"] and np.isfinite(_means(one)).sum() > 1
    ]
    found = []
    for other in varying[1:]:
        costs = np.column_stack([signs[at] * _means(measures[at]) for at in (varying[0], other)])
        front = np.flatnonzero(pareto_front(costs))
        ordered = front[np.argsort(costs[front, 0], kind="stable")]
        found.append({"x": varying[0], "y": other, "cases": ordered.tolist()})
    return found


def _means(measure: dict[str, Any]) -> Floats:
    """Return the mean of each case; nan where some replication missed it."""
    usable = [not row["missing"] and row["mean"] is not None for row in measure["cases"]]
    means = [row["mean"] if use else np.nan for row, use in zip(measure["cases"], usable, strict=True)]
    return np.array(means, dtype=np.float64)


def _sign(name: str, better: str) -> float:
    """Return 1 where less is better, -1 where more is, 0 where nobody can say."""
    if better == "less" or (better == "neither" and any(word in name for word in _LESS)):
        return 1.0
    if better == "more" or (better == "neither" and any(word in name for word in _MORE)):
        return -1.0
    return 0.0
