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
    """A value of a setting, None where there is no such setting, and which cases have it.

    ``kind`` is that of the table the setting is in, empty where cases with this
    value have several; ``case`` is the first of them.
    """

    value: Any
    kind: str
    case: str
    num_cases: int

    def __str__(self) -> str:
        """Say it in a few words."""
        more = f" and {self.num_cases - 1} more" if self.num_cases > 1 else ""
        where = self.kind or f"{clipped(self.case)}{more}"
        return f"{'not there' if self.value is None else clipped(shown(self.value))} in {where}"


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
        if self.is_default:
            value = next(one.value for one in self.levels if one.value is not None)
            return f"{self.path} = {clipped(shown(value))}"
        told = list(map(str, self.levels[:_MOST_VALUES]))
        if len(self.levels) > _MOST_VALUES:
            told.append(f"{len(self.levels) - _MOST_VALUES} more values")
        return f"{self.path} {', '.join(told)}"

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
            found.append(_unvaried(path, list(cases.values()), written, flat))
    return tuple(sorted(found, key=lambda one: one.is_default))


def _unvaried(
    path: str,
    cases: Sequence[Sequence[str]],
    written: Mapping[str, Mapping[str, Any]],
    flat: Mapping[str, Mapping[str, Any]],
) -> Unvaried:
    """Return a setting that differs; ``cases`` are those of each of its values."""
    kinds = [{_kind(flat[name], path) for name in some} for some in cases]
    levels = tuple(
        Level(
            flat[some[0]].get(path),
            kind if len(own) == 1 and kinds.count(own) == 1 else "",
            some[0],
            len(some),
        )
        for some, own in zip(cases, kinds, strict=True)
        for kind in sorted(own)[:1]
    )
    has = [some[0] for some in cases if path in flat[some[0]]]
    return Unvaried(path, levels, len(has) == 1 and is_left_at_default(written[has[0]], path))


def _kind(settings: Mapping[str, Any], path: str) -> str:
    """Return the kind of the nearest table that a setting is or would be in; empty for none."""
    table = path.rpartition(".")[0]
    while table:
        table_kind = settings.get(f"{table}.kind")
        if table_kind is not None and f"{table}.kind" != path:
            return str(table_kind)
        table = table.rpartition(".")[0]
    return ""
