"""What changes make of a scenario beside what they name: what other kinds keep, lose and have by default."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from cosim.leaves import is_asked, named, written_long
from cosim.parts import Table
from cosim.scenario.after_events import becomes
from cosim.scenario.former_names import current_path
from cosim.scenario.kinds import default_of, field_of, is_default, table_of
from cosim.scenario.load import to_dict
from cosim.scenario.settings import Scenario
from cosim.words import shown


class Switch(NamedTuple):
    """A table that got another kind, and what became of the settings that nobody named.

    Attributes
    ----------
    path
        Of the table; empty for none.
    before, after
        Its kinds; the same where a table was set as a whole.
    kept
        Settings both kinds have, as they were.
    lost
        Settings the old kind had, other than by default, that the new one does not have or not so.
    defaults
        Settings the new kind has by default, which were something else or not there before.
    """

    path: str
    before: str
    after: str
    kept: Mapping[str, Any]
    lost: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def __str__(self) -> str:
        """Say it in one line."""
        told = [f"{self.before} -> {self.after}"] if self.before != self.after else []
        for what, settings in (("kept", self.kept), ("lost", self.lost), ("by default", self.defaults)):
            if settings:
                told.append(f"{what} {', '.join(f'{name} = {shown(one)}' for name, one in settings.items())}")
        return f"{self.path}: {'; '.join(told)}"


def switches(
    before: Scenario, after: Scenario, asked: Iterable[str], tables: Iterable[str] = ()
) -> list[Switch]:
    """Return the tables of ``after`` that lost settings or have another kind than in ``before``.

    ``asked`` are the paths of the settings that were changed on purpose, as
    :func:`cosim.leaves.named` gives them: of those nothing is said. ``tables`` are
    paths of tables that were given with their kind: what they kept is listed also
    where the kind is the one that was there.

    Examples
    --------
    >>> from cosim.leaves import named
    >>> from cosim.scenario.load import change
    >>> changes = {"radio.fading.kind": "rician", "radio.fading.k_factor": 3.0}
    >>> block = change(
    ...     Scenario(name="x"), {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.1}}
    ... )
    >>> [str(one) for one in switches(block, change(block, changes), named(changes))]
    ['radio.fading: rayleigh_block -> rician; kept coherence_time_s = 0.1; by default fixed = line_of_sight']
    """
    return written_switches(to_dict(before), to_dict(after), asked, tables)


def event_switches(scenario: Scenario) -> list[tuple[float, Switch]]:
    """Return what the timed changes of a scenario make of its tables, each with its instant, s."""
    found, before = [], scenario
    events = sorted(scenario.events, key=lambda event: event.at_s)
    for event, (at_s, after) in zip(events, becomes(scenario), strict=True):
        found += [(at_s, one) for one in switches(before, after, named(event.set))]
        before = after
    return found


def written_switches(
    before: Mapping[str, Any], after: Mapping[str, Any], asked: Iterable[str], tables: Iterable[str] = ()
) -> list[Switch]:
    """Return what :func:`switches` does, of scenarios written out."""
    if ("trainable" in before) != ("trainable" in after):
        before, after = written_long(before), written_long(after)
    return list(_switches(Scenario, "", before, after, (tuple(map(current_path, asked)), frozenset(tables))))


def has_setting(written: Mapping[str, Any], path: str) -> bool:
    """Return whether the kinds chosen in a scenario written out have a setting at this path."""
    *tables, (table, name, _) = _steps(written, path)
    return all(one is None or step in one.model_fields for one, step, _ in (*tables, (table, name, None)))


def is_left_at_default(written: Mapping[str, Any], path: str) -> bool:
    """Return whether a setting of a scenario written out is what its table has without it."""
    *outer, (table, name, value) = _steps(written, path)
    if name == "kind" and outer:
        table, name, chosen = outer[-1]
        default = None if table is None else default_of(table, name)
        return isinstance(default, Mapping) and default.get("kind") == chosen["kind"]
    return table is not None and name in table.model_fields and is_default(table, name, value)


def _steps(written: Mapping[str, Any], path: str) -> list[tuple[type[Table] | None, str, Any]]:
    """Return each step of a path: the class of the table it is in, its name, and what is there."""
    here: Any = written
    table: type[Table] | None = Scenario
    field: FieldInfo | None = None
    found: list[tuple[type[Table] | None, str, Any]] = []
    for step in path.split("."):
        if isinstance(here, list):
            here = here[int(step)] if step.isdecimal() and int(step) < len(here) else None
        else:
            field = field_of(table, field, step)
            here = here.get(step) if isinstance(here, Mapping) else None
            found.append((table, step, here))
        table = table_of(field, here)
    return found


def _switches(
    table: type[Table] | None,
    path: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    told: tuple[tuple[str, ...], frozenset[str]],
) -> Iterator[Switch]:
    asked, tables = told
    if table is None:
        return
    for name, outer in table.model_fields.items():
        here = f"{path}.{name}" if path else name
        for place, field, was, now in _pairs(here, outer, before.get(name), after.get(name)):
            old, new = table_of(field, was), table_of(field, now)
            if old is None or new is None:
                continue
            is_other = old is not new or place in tables
            one = _switch(place, (was, now), (old, new), asked, is_other)
            if one.lost or (is_other and (one.kept or one.defaults)):
                yield one
            inside = was if old is new else [one for one in was if _is_inside(f"{place}.{one}", asked)]
            inner = {one: was[one] for one in inside}
            yield from _switches(new, place, inner, now, told)


def _is_inside(path: str, asked: tuple[str, ...]) -> bool:
    """Return whether a setting inside the table at a path is named."""
    return any(one.startswith(f"{path}.") for one in asked)


def _pairs(path: str, field: FieldInfo, was: Any, now: Any) -> Iterator[tuple[str, FieldInfo, Any, Any]]:
    """Return the tables at a path before and after; those of a list, or with names, one by one."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        yield path, field, was, now
        for name in (one for one in was if one in now):
            if (inner := field_of(None, field, name)) is not None:
                yield f"{path}.{name}", inner, was[name], now[name]
    elif isinstance(was, list) and isinstance(now, list):
        for number, (one, other) in enumerate(zip(was, now, strict=False)):
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                yield f"{path}.{number}", field, one, other


def _switch(
    path: str,
    given: tuple[Mapping[str, Any], Mapping[str, Any]],
    classes: tuple[type[Table], type[Table]],
    asked: tuple[str, ...],
    is_other: bool,
) -> Switch:
    (was, now), (old, new) = given, classes
    kept, lost, defaults = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for name in dict.fromkeys((*was, *now)):
        if name == "kind" or is_asked(f"{path}.{name}", asked):
            continue
        is_same = name in was and name in now and was[name] == now[name]
        if is_same and is_other and not is_default(new, name, now[name]):
            kept[name] = now[name]
        if not is_same and name in was and not is_default(old, name, was[name]):
            lost[name] = was[name]
        if not is_same and name in now and name not in kept:
            defaults[name] = now[name]
    before, after = (str(one.get("kind", "")) for one in given)
    return Switch(path, before, after, kept, lost, defaults)
