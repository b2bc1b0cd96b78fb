"""What a study found about one measure: by case, by factor, between factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cosim.report.study.factors import Factor, cells_of, is_sampled
from cosim.report.study.labels import measure_label, scale_of
from cosim.report.study.record import StudyRecord
from cosim.statistics.factorial import factorial_indices, interaction, marginal, pairs
from cosim.statistics.interval import Interval
from cosim.statistics.sensitivity import Indices, expansion_indices, pick_freeze_indices
from cosim.units import Floats

_MOST_LINES = 8
_COLUMNS = (
    *(
        "n",
        "missing",
        "diverged",
        "mean",
        "low",
        "high",
        "relative_half_width",
        "difference",
        "difference_low",
    ),
    *("difference_high", "relative_difference", "pairs", "detectable", "variance_reduction"),
)


def findings(record: StudyRecord, measure: str) -> dict[str, Any]:
    """Return all that is shown of one measure, as plain values.

    Numbers are in the measure's own unit; ``scale`` and ``shown_unit`` say how to show them.
    """
    unit = record.units[measure]
    rows = [_row(record, case, measure) for case in record.cases]
    largest = max((abs(row["mean"]) for row in rows if row["mean"] is not None), default=0.0)
    scale, shown_unit = scale_of(largest, unit)
    found: dict[str, Any] = {
        "name": measure,
        "label": measure_label(measure, unit),
        "unit": unit,
        "scale": scale,
        "shownUnit": shown_unit,
        "cases": rows,
        "response": None,
        "effects": [],
        "heat": [],
        "differs": _differs(record.values[measure]),
    }
    values, cells = record.complete(measure), cells_of(record.factors)
    if values is not None and cells is not None:
        crossed = values[cells]
        found["response"] = _response(record, crossed)
        found["effects"] = [_effect(record, crossed, factor) for factor in range(len(record.factors))]
        found["heat"] = [_heat(crossed, one, other) for one, other in pairs(len(record.factors))]
    return {**found, **_sensitivity(record, values, found["differs"])}


def best_pair(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pair of factors that depart most from adding up, or None where there is no pair."""
    return max(found["heat"], key=lambda heat: float(np.ptp(heat["interaction"])), default=None)


def _row(record: StudyRecord, case: str, measure: str) -> dict[str, Any]:
    given = record.summary.get((case, measure), {})
    row = {name: given.get(name) for name in _COLUMNS}
    return {**row, **{name: int(row[name] or 0) for name in ("n", "missing", "diverged")}}


def _differs(values: Floats) -> bool:
    """Return whether any case differs from another in a replication both have."""
    finite = np.where(np.isfinite(values), values, np.nan)
    for column in finite.T:
        some = column[~np.isnan(column)]
        if len(some) > 1 and np.ptp(some) > 1e-9 * np.abs(some).max():
            return True
    return bool(np.isinf(values).any())


def _ends(found: Interval) -> dict[str, Any]:
    return {name: np.asarray(end).tolist() for name, end in zip(("mean", "low", "high"), found, strict=True)}


def _marginal(record: StudyRecord, crossed: Floats, factors: tuple[int, ...]) -> Interval:
    return marginal(crossed, factors, method=record.method, confidence=record.confidence, seed=record.seed)


def _effect(record: StudyRecord, crossed: Floats, factor: int) -> dict[str, Any]:
    return {"factor": factor, **_ends(_marginal(record, crossed, (factor,)))}


def _heat(crossed: Floats, one: int, other: int) -> dict[str, Any]:
    others = tuple(axis for axis in range(crossed.ndim) if axis not in (one, other))
    means = crossed.mean(axis=others)
    return {
        "factors": [one, other],
        "mean": means.tolist(),
        "interaction": interaction(means).tolist(),
    }


def _response(record: StudyRecord, crossed: Floats) -> dict[str, Any]:
    """Return lines over the factor with most levels, one for each level of another, over all the rest."""
    across, by = chosen_axes(record.factors)
    kept = tuple(sorted((across,) if by is None else (across, by)))
    found = _marginal(record, crossed, kept)
    ends = [end if kept[0] == across else end.T for end in (found if by is not None else map(_column, found))]
    num_lines = ends[0].shape[1]
    lines = [
        {name: end[:, line].tolist() for name, end in zip(("mean", "low", "high"), ends, strict=True)}
        for line in range(num_lines)
    ]
    return {"across": across, "by": by, "lines": lines, "over": len(record.factors) - len(kept)}


def chosen_axes(factors: Sequence[Factor]) -> tuple[int, int | None]:
    """Return which factor to draw along the axis, and which as lines: numbers along, names as lines."""
    numbers = range(len(factors))
    across = max(numbers, key=lambda at: (factors[at].numeric, len(factors[at].values), -at))
    rest = [at for at in numbers if at != across and len(factors[at].values) <= _MOST_LINES]
    by = min(rest, key=lambda at: (factors[at].numeric, len(factors[at].values), at), default=None)
    return across, by


def _column(values: Floats) -> Floats:
    return np.asarray(values)[:, None]


def _sensitivity(record: StudyRecord, values: Floats | None, differs: bool) -> dict[str, Any]:
    """Return the indices, or why there are none."""
    cells = cells_of(record.factors)
    if len(record.factors) < 2:
        return {"indices": None, "noIndices": "One factor makes all the variance there is."}
    if not differs:
        return {"indices": None, "noIndices": "Nothing varies."}
    if values is None:
        told = "A target was missed, or no replication is in all cases: shares would be of some runs only."
        return {"indices": None, "noIndices": told}
    found: Indices | None = None
    if any(role for role, _ in record.roles):
        found = _picked(record, values.mean(axis=1))
    elif cells is not None:
        found = factorial_indices(values[cells], record.confidence)
    elif is_sampled(record.factors):
        columns = [one.numbers if one.numeric else one.level for one in record.factors]
        found = expansion_indices(columns, values, record.confidence)
    if found is None or not np.isfinite(found.first).all():
        told = "The cases are no grid and fill no ranges well enough to tell the factors apart."
        return {"indices": None, "noIndices": told}
    return {"noIndices": "", "indices": _plain(found)}


def _picked(record: StudyRecord, means: Floats) -> Indices | None:
    """Return the indices of a Sobol design, or None where it is crossed with another or lacks a case."""
    num_points = sum(role == "a" for role, _ in record.roles)
    parts = ["a", "b", *(f"ab{factor}" for factor in range(len(record.factors)))]
    at = {one: number for number, one in enumerate(record.roles)}
    wanted = [[(part, row) for row in range(num_points)] for part in parts]
    if len(at) != len(record.roles) or {one for row in wanted for one in row} != set(at):
        return None
    first, second, *mixed = (means[[at[one] for one in row]] for row in wanted)
    return pick_freeze_indices(first, second, np.stack(mixed), confidence=record.confidence, seed=record.seed)


def _plain(found: Indices) -> dict[str, Any]:
    ends = {
        name: {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}
        for name, value, low, high in (
            ("first", found.first, found.first_low, found.first_high),
            ("total", found.total, found.total_low, found.total_high),
        )
    }
    return {**ends, "told": found.told, "explained": found.explained}
