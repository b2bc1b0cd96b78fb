"""Settings by their paths: as a study file spells them, and as a scenario holds them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = dict[str, Any]
"""Values by path, such as ``{"radio.noise_figure_db": 7.0}``."""


def spelt(given: Any, is_value: Callable[[dict[str, Any]], bool]) -> Any:
    """Spell nested tables out: TOML reads a path without quotes as tables within tables.

    Parameters
    ----------
    given
        What the file has; handed back as it is where it is no table.
    is_value
        Whether a table is a value itself, rather than the middle of a path.

    Examples
    --------
    >>> spelt({"radio": {"fading": {"kind": "none"}, "x": 1}}, lambda table: "kind" in table)
    {'radio.fading': {'kind': 'none'}, 'radio.x': 1}
    """
    if not isinstance(given, dict):
        return given
    paths: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict) and value and not is_value(value):
            paths |= {f"{name}.{path}": inner for path, inner in spelt(value, is_value).items()}
        else:
            paths[name] = value
    return paths


def at(given: Any, path: str) -> Any:
    """Return the setting at a path of a scenario written out, None where it says none.

    Examples
    --------
    >>> at({"clients": [{"count": 3}]}, "clients.0.count"), at({"radio": {}}, "radio.fading.kind")
    (3, None)
    """
    here = given
    for step in path.split("."):
        if isinstance(here, Mapping):
            here = here.get(step)
        elif isinstance(here, list | tuple) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        else:
            return None
    return here


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a name for each path: its end, and as much before it as tells it from the others.

    The choice of a kind is named after the table it is made in.

    Examples
    --------
    >>> short_names(["allocator.kind", "radio.main_uplink.bandwidth_hz"])
    {'allocator.kind': 'allocator', 'radio.main_uplink.bandwidth_hz': 'bandwidth_hz'}
    >>> list(short_names(["radio.a.x", "radio.b.x"]).values())
    ['a.x', 'b.x']
    """
    steps = {path: path.removesuffix(".kind").split(".") for path in paths}
    named = {}
    for path, own in steps.items():
        others = [other for one, other in steps.items() if one != path]
        length = next(
            (n for n in range(1, len(own)) if not any(other[-n:] == own[-n:] for other in others)), len(own)
        )
        name = ".".join(own[-length:])
        named[path] = name if all(other != own for other in others) else path
    return named
