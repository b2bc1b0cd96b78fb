"""What the results of a study say: intervals, differences against a baseline, and when to stop."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.statistics.difference import Difference, difference
from cosim.statistics.interval import Interval, Method, interval
from cosim.studies.settings import Target

if TYPE_CHECKING:
    import pyarrow

NO_FACTORS = ("case", "replication", "seed", "measure", "value")
"""Columns of the results that are no factor."""

LEAST_TO_STOP = 10
"""Values below which no interval is narrow enough: from 2 on, 95 % intervals would hold 88 times in 100."""


@dataclass(frozen=True)
class Wide:
    """A case whose interval is wider than asked for; ``half_width`` is relative where the rule is."""

    case: str
    half_width: float
    num_values: int


def too_wide(
    results: "pyarrow.Table",
    measure: str,
    target: Target,
    *,
    method: Method = "t",
    confidence: float = 0.95,
    seed: int = 0,
    least: int = LEAST_TO_STOP,
) -> list[Wide]:
    """Return the cases whose interval is still wider than a target, in the order of the results.

    With fewer than ``least`` values an interval counts as too wide, unless they are
    all the same: who stops at the first narrow one stops too often where the spread
    is underrated by chance, and the fewer the values the more. A case that never
    reached the measure is left out: no number of replications would make its
    interval.

    Parameters
    ----------
    results
        Tidy, as a study writes them.
    measure
        The one the target is about.
    target
        How narrow intervals must be.
    method, confidence, seed
        Of the intervals.
    least
        Values a case should have.
    """
    wide = []
    for (case, name), values in _by_replication(results).items():
        finite = np.array([value for value in values.values() if np.isfinite(value)])
        if name != measure or not len(finite):
            continue
        found = interval(finite, method=method, confidence=confidence, seed=seed)
        half_width = relative_half_width(found) if target.is_relative else float(found.half_width)
        is_sure = len(finite) >= least or half_width == 0.0
        if not (is_sure and half_width <= target.half_width):
            wide.append(Wide(case, half_width, len(finite)))
    return wide


def relative_half_width(found: Interval) -> float:
    """Return half the width of an interval over the size of its mean; inf about a mean of zero.

    Examples
    --------
    >>> relative_half_width(Interval(np.array(10.0), np.array(9.0), np.array(11.0)))
    0.1
    """
    half, size = float(found.half_width), abs(float(found.mean))
    if size == 0.0:
        return 0.0 if half == 0.0 else float("inf")
    return half / size


def summarise(
    results: "pyarrow.Table",
    *,
    baselines: Mapping[str, str | None] | None = None,
    diverged: Mapping[str, int] | None = None,
    method: Method = "t",
    confidence: float = 0.95,
    seed: int = 0,
) -> "pyarrow.Table":
    """Return one row per case and measure: mean, interval, and difference to the baseline.

    A value that is not finite (a target never reached, a training that diverged) is in no
    mean: ``n`` counts the others and ``missing`` these, and ``detectable`` is then
    ``censored``, because who reaches a target is no fair draw of all.

    Parameters
    ----------
    results
        Tidy: one row per case, replication and measure. Columns other than
        :data:`NO_FACTORS` are factors.
    baselines
        The case each is compared with, by name; pairs are replications of one
        number. A case is not compared with itself, nor where it has no entry.
    diverged
        How many trainings of a case diverged, by its name; they are among the missing.
    method, confidence, seed
        Of the intervals.

    Returns
    -------
    pyarrow.Table
        ``case``, the factors, ``measure``, ``n``, ``missing``, ``diverged``, ``mean``, ``low``,
        ``high``, ``relative_half_width``; ``baseline``, ``difference`` (case less baseline),
        ``difference_low``, ``difference_high``, ``relative_difference`` (over the
        size of the baseline's mean in the pairs), ``pairs``, ``detectable``
        (``yes``, ``no``, ``censored``, or null where nothing can be said) and
        ``variance_reduction``, what the pairs were worth. Null where there is no number.
    """
    import pyarrow

    groups = _by_replication(results)
    baselines = baselines or {}
    factors = [name for name in results.column_names if name not in NO_FACTORS]
    settings = _settings(results, factors)
    rows = []
    for (case, measure), values in groups.items():
        row: dict[str, Any] = {"case": case, **settings[case], "measure": measure}
        row["diverged"] = (diverged or {}).get(case, 0)
        row |= _mean(values, method, confidence, seed)
        baseline = baselines.get(case)
        against = groups.get((baseline, measure)) if baseline is not None and baseline != case else None
        row["baseline"] = None if against is None else baseline
        row |= _against(values, against, method, confidence, seed)
        rows.append(row)
    text, whole, number = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    kinds = {"case": text, **{name: results.schema.field(name).type for name in factors}, "measure": text}
    kinds |= {
        "n": whole,
        "missing": whole,
        "diverged": whole,
        **dict.fromkeys(("mean", "low", "high", "relative_half_width"), number),
    }
    kinds["baseline"] = text
    names = ("difference", "difference_low", "difference_high", "relative_difference")
    kinds |= {
        **dict.fromkeys(names, number),
        "pairs": whole,
        "detectable": text,
        "variance_reduction": number,
    }
    return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(list(kinds.items())))


def summary_csv(summary: "pyarrow.Table") -> bytes:
    """Return a summary as CSV; the same summary gives the same bytes."""
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(summary.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in summary.columns), strict=True))
    return lines.getvalue().encode()


def _by_replication(results: "pyarrow.Table") -> dict[tuple[str, str], dict[int, float]]:
    columns = (results[name].to_pylist() for name in ("case", "measure", "replication", "value"))
    groups: dict[tuple[str, str], dict[int, float]] = {}
    for case, measure, replication, value in zip(*columns, strict=True):
        groups.setdefault((case, measure), {})[replication] = float("nan") if value is None else value
    return groups


def _settings(results: "pyarrow.Table", factors: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what each case sets, from its first row."""
    cases = results["case"].to_pylist()
    first = {case: row for row, case in reversed(list(enumerate(cases)))}
    columns = {name: results[name].to_pylist() for name in factors}
    return {case: {name: column[row] for name, column in columns.items()} for case, row in first.items()}


def _mean(values: Mapping[int, float], method: Method, confidence: float, seed: int) -> dict[str, Any]:
    finite = np.array([value for value in values.values() if np.isfinite(value)])
    told: dict[str, Any] = {"n": len(finite), "missing": len(values) - len(finite)}
    if not len(finite):
        return told
    found = interval(finite, method=method, confidence=confidence, seed=seed)
    told["mean"] = float(found.mean)
    if len(finite) > 1:
        told |= {"low": float(found.low), "high": float(found.high)}
        relative = relative_half_width(found)
        told["relative_half_width"] = relative if np.isfinite(relative) else None
    return told


def _against(
    values: Mapping[int, float],
    before: Mapping[int, float] | None,
    method: Method,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    if before is None:
        return {}
    both = [one for one in values if one in before]
    pairs = [one for one in both if np.isfinite(values[one]) and np.isfinite(before[one])]
    told: dict[str, Any] = {"pairs": len(pairs)}
    censored = len(pairs) < len(both)
    if pairs:
        sides = [np.array([side[one] for one in pairs]) for side in (values, before)]
        found = difference(*sides, method=method, confidence=confidence, seed=seed)
        told |= _told(found, abs(float(sides[1].mean())))
    if censored:
        told["detectable"] = "censored"
    return told


def _told(found: Difference, baseline: float) -> dict[str, Any]:
    told: dict[str, Any] = {"difference": found.mean}
    if baseline > 0.0:
        told["relative_difference"] = found.mean / baseline
    if found.detectable is not None:
        told |= {"difference_low": found.low, "difference_high": found.high}
        told["detectable"] = "yes" if found.detectable else "no"
    if not np.isnan(found.variance_reduction):
        told["variance_reduction"] = found.variance_reduction
    return told
