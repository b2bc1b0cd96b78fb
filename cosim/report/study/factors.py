"""What a study varied: factors with their levels, and where cases are among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosim.report.study.labels import label_and_unit, value_labels
from cosim.statistics.factorial import crossing
from cosim.units import Floats, Ints

_MOST_LEVELS = 16


@dataclass(frozen=True, eq=False)
class Factor:
    """One thing that varies; settings that only vary together are one factor.

    Attributes
    ----------
    paths
        The settings, as the study names them.
    label, unit
        Of the first of them.
    values
        Of the first of them at each level: rising where they are numbers, else
        in the order of the cases.
    level
        The number of the level each case has, shape (num_cases,).
    """

    paths: tuple[str, ...]
    label: str
    unit: str
    values: tuple[Any, ...]
    level: Ints

    @property
    def numeric(self) -> bool:
        """Whether the levels are numbers."""
        return all(isinstance(one, float) for one in self.values)

    @property
    def level_labels(self) -> tuple[str, ...]:
        """Each level in a word or two."""
        return value_labels(self.values, self.unit)

    @property
    def numbers(self) -> Floats:
        """The value of every case, shape (num_cases,); for numeric factors only."""
        return np.array(self.values, dtype=np.float64)[self.level]

    @property
    def log(self) -> bool:
        """Whether the levels read better on a logarithmic scale."""
        if not self.numeric or len(self.values) < 3 or self.unit.startswith("dB") or min(self.values) <= 0.0:
            return False
        return bool(max(self.values) / min(self.values) >= 5.0)


@dataclass(frozen=True)
class Group:
    """Settings a study varies as one.

    Attributes
    ----------
    paths
        The settings.
    label
        What they are called together; after the first of them where it is empty.
    names
        What each case is called among them; empty where their values tell.
    """

    paths: tuple[str, ...]
    label: str = ""
    names: tuple[str, ...] = ()


def factors_of(columns: Mapping[str, Sequence[Any]], groups: Sequence[Group] = ()) -> tuple[Factor, ...]:
    """Return what varies among the cases.

    Parameters
    ----------
    columns
        For each setting its value in every case; one that is the same in all is no factor.
    groups
        Settings that are one factor.
    """
    of = {path: group for group in groups for path in group.paths}
    found: list[Factor] = []
    for path, values in columns.items():
        group = of.get(path, Group((path,)))
        if any(path in one.paths for one in found):
            continue
        factor = _factor(group, [columns[one] for one in group.paths if one in columns], values)
        if len(factor.values) > 1:
            found.append(factor)
    return tuple(found)


def _factor(group: Group, columns: Sequence[Sequence[Any]], first: Sequence[Any]) -> Factor:
    """Return the factor of a group, its levels told apart by all of its settings."""
    rows = list(zip(*([_known(one) for one in values] for values in columns), strict=True))
    shown = list(group.names) or [_known(one) for one in first]
    told = dict(zip(rows, shown, strict=True))  # what tells each combination
    levels = list(told)
    if all(isinstance(one, float) for one in told.values()) and len(set(told.values())) == len(told):
        levels.sort(key=told.__getitem__)
    elif len(set(map(str, told.values()))) < len(told):
        told = {row: ", ".join(map(str, row)) for row in told}
    number = {row: at for at, row in enumerate(levels)}
    label, unit = (group.label, "") if group.label else label_and_unit(group.paths[0])
    level = np.array([number[row] for row in rows], dtype=np.int64)
    return Factor(group.paths, label, unit, tuple(told[row] for row in levels), level)


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def cells_of(factors: Sequence[Factor]) -> Ints | None:
    """Return which case is in each cell of the grid, or None where the cases are no full grid."""
    return crossing([factor.level for factor in factors])


def is_sampled(factors: Sequence[Factor]) -> bool:
    """Return whether the cases were drawn over ranges: no grid, and numbers that hardly repeat."""
    if cells_of(factors) is not None or not factors:
        return False
    return any(factor.numeric and len(factor.values) > 0.5 * len(factor.level) for factor in factors) and all(
        factor.numeric or len(factor.values) <= _MOST_LEVELS for factor in factors
    )


def case_labels(names: Sequence[str], factors: Sequence[Factor]) -> tuple[str, ...]:
    """Return what each case is called: its levels where they tell the cases apart, else its name."""
    if not factors or len(factors) > 3 or is_sampled(factors):
        return tuple(names)
    labels = [
        ", ".join(level_told(factor, int(factor.level[row])) for factor in factors)
        for row in range(len(names))
    ]
    return tuple(labels) if len(set(labels)) == len(labels) and max(map(len, labels)) < 60 else tuple(names)


def level_told(factor: Factor, level: int) -> str:
    """Return a level with the name of its factor where the level alone says nothing."""
    text = factor.level_labels[level]
    bare = factor.numeric and not factor.unit
    return f"{factor.label} {text}" if bare or text == "-" else text
