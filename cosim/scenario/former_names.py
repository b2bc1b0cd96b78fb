"""Settings and kinds under the names they had before: taken, with one line that names the new one."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from cosim.errors import ScenarioError
from cosim.parts import Table, base_of, family, part_of
from cosim.scenario.kinds import field_of, tables_in
from cosim.scenario.settings import Scenario

_log = logging.getLogger(__name__)


class _Place(NamedTuple):
    """Where settings are: the fields it is the value of, and its tables where their kind is known."""

    fields: tuple[FieldInfo, ...] = ()
    known: tuple[type[Table], ...] = ()

    @property
    def tables(self) -> tuple[type[Table], ...]:
        """The tables there may be, whatever the kind where it is not known."""
        return self.known or tuple(dict.fromkeys(_tables(self.fields)))

    @property
    def has_tables(self) -> bool:
        """Whether there may be settings inside: it is a table, or holds tables by name."""
        return bool(self.known) or any(
            base_of(one) or field_of(None, one, "") or any(tables_in(one.annotation)) for one in self.fields
        )

    def of_kind(self, path: str, kind: Any) -> "_Place":
        """Return the place of a table of this kind; the rest of the family is then not loaded."""
        if not isinstance(kind, str):
            return self
        kind = _renamed_kind(self, f"{path}.kind", kind)
        parts = (part_of(base, kind) for base in map(base_of, self.fields) if base is not None)
        return self._replace(known=tuple(part for part in parts if part is not None))


_ROOT = _Place(known=(Scenario,))


def current_path(path: str) -> str:
    """Return a path with the names settings have now.

    Examples
    --------
    >>> current_path("radio.main_downlink.counted")
    'radio.main_downlink.modelled'
    """
    place, steps = _ROOT, []
    for step in path.split("."):
        if step.isdecimal():
            steps.append(step)
            continue
        name = _current(place.tables, step)
        if name != step:
            tell_name(path, step, name)
        steps.append(name)
        place = _inside(place, name)
    return ".".join(steps)


def current_kind(path: str, value: Any) -> Any:
    """Return the value of a setting; the kind's name now, if it is a kind's former one."""
    table, _, last = path.rpartition(".")
    if last != "kind" or not isinstance(value, str):
        return value
    return _renamed_kind(_place_of(table), path, value)


def current_change(path: str, value: Any) -> tuple[str, Any]:
    """Return a change of a setting, or of a table of them, with the names they have now."""
    path = current_path(path)
    if isinstance(value, Mapping):
        return path, _translated(value, _place_of(path), path)
    return path, current_kind(path, value)


def with_current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario, as a file has it, with the names its settings and kinds have now.

    Raises
    ------
    ScenarioError
        If a setting is given under both names.
    """
    found = _translated(given, _ROOT, "")
    assert isinstance(found, dict)
    return found


def _place_of(path: str) -> _Place:
    """Return the place of a path with names of today."""
    place = _ROOT
    for step in filter(None, path.split(".")):
        place = place if step.isdecimal() else _inside(place, step)
    return place


def _translated(value: Any, place: _Place, path: str) -> Any:
    if isinstance(value, list | tuple):
        return [_translated(one, place, f"{path}.{number}") for number, one in enumerate(value)]
    if not isinstance(value, Mapping) or not place.has_tables:
        return value
    place = place.of_kind(path, value.get("kind"))
    made: dict[str, Any] = {}
    tables = place.tables
    for given_name, inner in value.items():
        here = f"{path}.{given_name}".lstrip(".")
        name = _current(tables, given_name)
        if name != given_name:
            if name in value:
                raise ScenarioError(
                    f"{here} is the former name of {name}, and both were given; leave {given_name} out."
                )
            tell_name(here, given_name, name)
        if name == "kind" and isinstance(inner, str):
            made[name] = _renamed_kind(place, here, inner)
        else:
            made[name] = _translated(inner, _inside(place, name), here)
    return made


def _current(tables: Iterable[type[Table]], name: str) -> str:
    return next((one.former_names[name] for one in tables if name in one.former_names), name)


def _renamed_kind(place: _Place, path: str, kind: str) -> str:
    for base in filter(None, map(base_of, place.fields)):
        found = part_of(base, kind)
        if found is not None and kind not in found.former_kinds:
            continue
        for name, part in family(base).items():
            if kind in part.former_kinds:
                tell_name(path, kind, name)
                return name
    return kind


@cache
def _inside(place: _Place, name: str) -> _Place:
    """Return the place of what a setting holds."""
    owners = [*((one, None) for one in place.tables), *((None, one) for one in place.fields)]
    fields = tuple(found for owner in owners if (found := field_of(*owner, name)) is not None)
    return _Place(fields)


def _tables(fields: tuple[FieldInfo, ...]) -> Iterator[type[Table]]:
    for field in fields:
        base = base_of(field)
        yield from tables_in(field.annotation) if base is None else family(base).values()


@cache
def tell_name(path: str, former: str, name: str) -> None:
    """Say, once in a process, what a name in a file is now."""
    _log.warning("%s: %r is called %r now; the former name still works", path, former, name)
