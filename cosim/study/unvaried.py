"""Settings in which the cases of a study differ though nobody varied them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosim.leaves import is_asked, leaves
from cosim.scenario.differences import is_left_at_default
from cosim.words import clipped, shown

_NOT_THERE = object()
_MOST_VALUES = 4


@dataclass(frozen=True)
class Level:
    """A value of a setting, the first case that has it, and how many have it; ``value`` is None for none."""

    value: Any
    case: str
    num_cases: int


@dataclass(frozen=True)
class Unvaried:
    """A setting that nobody varied and that is not the same in every case.

    Attributes
    ----------
    path
        Of the setting.
    levels
        Its values, each with the cases that have it.
    is_default
        Whether it is no more than this: some of the kinds chosen have the setting,
        and there it has its default.
    """

    path: str
    levels: tuple[Level, ...]
    is_default: bool

    def __str__(self) -> str:
        """Say it in one line."""
        told = []
        for one in self.levels[:_MOST_VALUES]:
            more = f" and {one.num_cases - 1} more" if one.num_cases > 1 else ""
            value = "no such setting" if one.value is None else clipped(shown(one.value))
            told.append(f"{value} in {clipped(one.case)}{more}")
        if len(self.levels) > _MOST_VALUES:
            told.append(f"and {len(self.levels) - _MOST_VALUES} more values")
        return f"{self.path}: {', '.join(told)}"

    def entry(self) -> dict[str, Any]:
        """Return it as an entry of a manifest."""
        return {
            "path": self.path,
            "levels": [{"value": one.value, "case": one.case, "cases": one.num_cases} for one in self.levels],
            "default": self.is_default,
            "told": str(self),
        }


def unvaried(written: Mapping[str, Mapping[str, Any]], asked: Sequence[str]) -> tuple[Unvaried, ...]:
    """Return the settings that differ between cases and are none of those asked for.

    Parameters
    ----------
    written
        The scenario of each case written out, by the name of the case.
    asked
        Paths of what varies.
    """
    flat = {name: dict(leaves(one)) for name, one in written.items()}
    found = []
    for path in dict.fromkeys(path for one in flat.values() for path in one):
        if is_asked(path, asked):
            continue
        cases: dict[str, list[str]] = {}
        for name, one in flat.items():
            cases.setdefault(repr(one.get(path, _NOT_THERE)), []).append(name)
        if len(cases) > 1:
            names = list(cases.values())
            levels = tuple(Level(flat[some[0]].get(path), some[0], len(some)) for some in names)
            has = [some[0] for some in names if path in flat[some[0]]]
            is_default = len(has) == 1 and is_left_at_default(written[has[0]], path)
            found.append(Unvaried(path, levels, is_default))
    return tuple(sorted(found, key=lambda one: one.is_default))
