"""Settings changed by their paths, and what a table keeps when another kind is chosen for it.

One rule wherever settings are given by path (``--set``, a study, an event, a
what-if): a table given as a value sets the paths in it. A table that gets
another kind keeps the settings that both kinds have, unless the value is the
default of the kind that is left, or the new kind does not accept it.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from pydantic.fields import FieldInfo

from cosim.errors import ScenarioError
from cosim.parts import Table
from cosim.scenario.former_names import current_kind, current_path
from cosim.scenario.kinds import faults_of, field_of, is_default, table_of
from cosim.scenario.settings import Scenario
from cosim.words import clipped, short


def apply(
    given: dict[str, Any], changes: Mapping[str, Any], source: str, common: Mapping[str, Any] | None = None
) -> None:
    """Change the settings of a scenario written out; the order of the changes does not matter.

    Tables are changed before what is in them, and a kind before the settings that go with it.

    Parameters
    ----------
    given
        Every setting in force, as a file would have it; changed in place.
    changes
        New values by path; None leaves a setting out.
    source
        Begins the line of a fault.
    common
        Further changes. ``changes`` win over them, and those of settings that the
        chosen kinds do not have are left out.

    Raises
    ------
    ScenarioError
        If a path leads nowhere.
    """
    _Application(given, source, changes, common or {}).finish()


@dataclass(frozen=True, order=True)
class _Change:
    """One change; changes are ordered as they are made, and the last of one path counts."""

    depth: int
    is_setting: bool
    path: str
    is_own: bool
    origin_depth: int
    number: int

    @classmethod
    def of(cls, path: str, is_own: bool, origin_depth: int, number: int) -> "_Change":
        depth = path.count(".")
        return cls(depth, path.rpartition(".")[2] != "kind", path, is_own, origin_depth, number)

    @property
    def is_of_table(self) -> bool:
        """Whether it was given as a table with others."""
        return self.origin_depth < self.depth


@dataclass(frozen=True)
class _Place:
    """The table a setting is in, its class, and the field it is the value of; None where unknown."""

    here: Any
    table: type[Table] | None
    field: FieldInfo | None

    def inner(self, name: str) -> FieldInfo | None:
        return field_of(self.table, self.field, name)


@dataclass(frozen=True)
class _Carried:
    """A table that was begun again with some of its old settings."""

    path: str
    here: dict[str, Any]
    table: type[Table]
    names: tuple[str, ...]

    def settle(self, touched: list[str]) -> None:
        """Leave out what was carried over and does not go with what was set."""
        names = [one for one in self.names if one in self.here and not self._is_touched(one, touched)]
        if not names or not faults_of(self.table, self.here):
            return
        rest = {name: value for name, value in self.here.items() if name not in names}
        for name in names:
            more = {**rest, name: self.here[name]}
            if faults_of(self.table, more) <= faults_of(self.table, rest):
                rest = more
            else:
                del self.here[name]

    def _is_touched(self, name: str, touched: list[str]) -> bool:
        path = f"{self.path}.{name}"
        return any(one == path or one.startswith(f"{path}.") for one in touched)


class _Application:
    """Changes being made."""

    def __init__(
        self, given: dict[str, Any], source: str, changes: Mapping[str, Any], common: Mapping[str, Any]
    ) -> None:
        self._given = given
        self._source = source
        self._values: list[Any] = []
        self._open: list[_Change] = []
        self._carried: list[_Carried] = []
        self._touched: list[str] = []
        for path, value in common.items():
            self._push(path, value, False, path.count("."))
        for path, value in changes.items():
            self._push(path, value, True, path.count("."))
        heapify(self._open)

    def finish(self) -> None:
        """Make all changes."""
        while self._open:
            one = heappop(self._open)
            value = self._values[one.number]
            if self._open and self._open[0].path == one.path:
                other = self._values[self._open[0].number]
                if not (isinstance(value, dict) and isinstance(other, dict)):
                    continue  # the next one is of the same setting, and wins
            place = self._place(one)
            if place is not None:
                self._make(one, value, place)
        for some in self._carried:
            some.settle(self._touched)

    def _push(self, path: str, value: Any, is_own: bool, origin_depth: int) -> None:
        path = current_path(path)
        value = current_kind(path, value)
        heappush(self._open, _Change.of(path, is_own, origin_depth, len(self._values)))
        self._values.append(value)

    def _place(self, one: _Change) -> _Place | None:
        """Return where a setting is; None where it is not needed, as the chosen kinds do not have it."""
        *steps, last = one.path.split(".")
        place = _Place(self._given, Scenario, None)
        for step in steps:
            here = place.here
            if isinstance(here, list):
                if not step.isdecimal() or int(step) >= len(here):
                    raise self._fault(one, f"{short(step)} must be a number from 0 to {len(here) - 1}.")
                inner, field = here[int(step)], place.field
            elif isinstance(here, dict):
                field = place.inner(step)
                if field is None and place.table is not None and not one.is_own:
                    return None
                inner = here.setdefault(step, {})
            else:
                raise self._fault(one, f"{short(step)} is not in a table.")
            place = _Place(inner, table_of(field, inner), field)
        if isinstance(place.here, list):
            way_out = f"name one of its tables, such as {clipped('.'.join(steps))}.0.{clipped(last)}."
            raise self._fault(one, f"{short(steps[-1])} is a list; {way_out}")
        if not isinstance(place.here, dict):
            raise self._fault(one, f"{short(last)} must be a setting in a table, not {short(place.here)}.")
        is_unknown = place.table is not None and place.inner(last) is None
        return None if is_unknown and not one.is_own else place

    def _fault(self, one: _Change, told: str) -> ScenarioError:
        return ScenarioError(f"{self._source} {clipped(one.path)}: {told}")

    def _make(self, one: _Change, value: Any, place: _Place) -> None:
        here, last = place.here, one.path.rpartition(".")[2]
        if isinstance(value, dict) and value and self._opens(one, value, place):
            return
        self._touched.append(one.path)
        if last == "kind" and (here.get("kind") != value or one.is_of_table):
            self._begin_again(one.path.removesuffix(".kind"), here, value, place.field)
        elif value is None:
            here.pop(last, None)
        else:
            here[last] = deepcopy(value)

    def _opens(self, one: _Change, value: dict[str, Any], place: _Place) -> bool:
        """Take a table as the paths in it, unless it is a value of its own; return whether it was."""
        last = one.path.rpartition(".")[2]
        field, before = place.inner(last), place.here.get(last)
        old = before if isinstance(before, dict) else {}
        kind = current_kind(f"{one.path}.kind", value.get("kind", old.get("kind")))
        if table_of(field, {"kind": kind}) is None:
            return False
        place.here[last] = old
        if kind is None:
            self._begin_again(one.path, old, None, field)
        for name, inner in {**value, **({} if kind is None else {"kind": kind})}.items():
            self._push(f"{one.path}.{name}", inner, one.is_own, one.origin_depth)
        return True

    def _begin_again(self, path: str, here: dict[str, Any], kind: Any, field: FieldInfo | None) -> None:
        """Empty a table but for what it keeps, under another kind or beside settings of its own."""
        before, old = dict(here), table_of(field, here)
        here.clear()
        if kind is not None:
            here["kind"] = kind
        new = table_of(field, here)
        if old is not None and new is not None:
            kept = _carried(before, old, new, here)
            here.update(kept)
            self._carried.append(_Carried(path, here, new, tuple(kept)))


def _carried(
    before: Mapping[str, Any], old: type[Table], new: type[Table], begun: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a table that it keeps under another kind; ``begun`` has that kind."""
    kept: dict[str, Any] = {}
    for name, value in before.items():
        if name == "kind" or not {name} <= old.model_fields.keys() & new.model_fields.keys():
            continue
        if is_default(old, name, value):
            continue
        if _takes(new, begun, name, value):
            kept[name] = value
        elif isinstance(value, dict):
            was, now = (table_of(one.model_fields[name], value) for one in (old, new))
            kind = {"kind": value["kind"]} if "kind" in value else {}
            inner = {**kind, **_carried(value, was, now, kind)} if was and now else {}
            if inner and _takes(new, begun, name, inner):
                kept[name] = inner
    return kept


def _takes(table: type[Table], begun: Mapping[str, Any], name: str, value: Any) -> bool:
    """Return whether a setting by itself is valid in a table."""
    return not any(loc[:1] == (name,) for loc, _ in faults_of(table, {**begun, name: value}))
