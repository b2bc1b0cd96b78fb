"""The families of parts, as lines of text."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from re import sub
from textwrap import wrap
from typing import Any

from cosim.errors import ScenarioError
from cosim.scenario.catalogue import Family, Setting, families, first_line, inner_families, settings
from cosim.scenario.faults import did_you_mean
from cosim.studies.measures import Measure
from cosim.words import short

_WIDTH = 100
_ARCHITECTURES = "model_type"


def listing(name: str | None = None) -> list[str]:
    """Return all families, or those whose place in the file has this name in it.

    The architectures of models, which are no parts, are listed behind them, and as ``model_type``.
    What a task has of its own, such as ``tasks.NAME.scheme``, is of the family that a scenario has.

    Raises
    ------
    ScenarioError
        If no family has that name.
    """
    if name == _ARCHITECTURES:
        return list(_architectures())
    lines: list[str] = []
    for one in _chosen(name):
        lines += ["", ", ".join(one.places)]
        for kind, part in one.parts.items():
            lines.append(f"  {kind:<18} {first_line(part).replace('``', '')}")
            for setting in settings(part):
                lines += _setting(setting)
    return [*lines[1:], *(["", *_architectures()] if name is None else [])]


def kinds(name: str | None = None) -> list[dict[str, Any]]:
    """Return what :func:`listing` does, for JSON.

    Raises
    ------
    ScenarioError
        If no family has that name.
    """
    return [
        {
            "places": list(family.places),
            "kinds": [
                {"kind": kind, "told": first_line(part), "settings": [asdict(one) for one in settings(part)]}
                for kind, part in family.parts.items()
            ],
        }
        for family in _chosen(name)
    ]


def _chosen(name: str | None) -> list[Family]:
    every = every_family()
    wanted = None if name is None else sub(r"^tasks\.[^.]+\.", "", name)
    chosen = [one for one in every if wanted is None or wanted in names_of(one.places)]
    if not chosen:
        known = [place for one in every for place in one.places] + [_ARCHITECTURES]
        hint = did_you_mean(name or "", names_of(known))
        raise ScenarioError(f"no family {short(name)}; known: {', '.join(known)}{hint}.")
    return chosen


def _architectures() -> Iterator[str]:
    """Return the models that can be cut, by what their config.json calls them."""
    from cosim.learning.architectures import FAMILIES

    yield f"{_ARCHITECTURES} of a base's config.json"
    for name, one in FAMILIES.items():
        own = "" if one.has_blocks_of_ours else "; blocks are called as transformers has them"
        yield f"  {name:<18} {', '.join(one.tasks)}; adapters on {', '.join(one.default_targets)}{own}"
    yield "  any other          whose blocks in transformers are attention and MLP; found in its modules"


def every_family() -> tuple[Family, ...]:
    """Return the families of scenarios and of studies."""
    return (*families(), *inner_families(), Family("study.measures", Measure))


def names_of(places: Iterable[str]) -> list[str]:
    """Return what the families at these places may be called."""
    return [word for place in places for word in (place, *place.split("."))]


def _setting(setting: Setting) -> Iterator[str]:
    unit = f", {setting.unit}" if setting.unit else ""
    default = "must be given" if setting.default is None else f"default {setting.default}"
    yield f"      {setting.name}: {setting.type}{unit}; {default}"
    yield from wrap(setting.description, _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)
