"""Settings one by one: a scenario written out, or changes of one, as values by path."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def named(changes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the settings that changes name, tables spelt out.

    Examples
    --------
    >>> named({"radio.fading": {"kind": "rician", "k_factor": 3.0}, "seed": 1})
    ['radio.fading.kind', 'radio.fading.k_factor', 'seed']
    """
    found: list[str] = []
    for path, value in changes.items():
        if isinstance(value, Mapping) and value:
            found += [f"{path}.{one}" for one in named(value)]
        else:
            found.append(path)
    return found


def is_asked(path: str, asked: Sequence[str]) -> bool:
    """Return whether a setting is one of those named, in one of them, or a table that has one.

    Examples
    --------
    >>> is_asked("events.0.at_s", ["events"]), is_asked("radio.rate.kind", ["radio.fading.kind"])
    (True, False)
    """
    return any(path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in asked)


def leaves(given: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return every setting of a scenario written out by its path; a list of tables goes by numbers."""
    if isinstance(given, Mapping) and given:
        for name, value in given.items():
            yield from leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        for number, value in enumerate(given):
            yield from leaves(value, f"{path}.{number}")
    else:
        yield path, given


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two scenarios written out differ, both values; None where one has none.

    Examples
    --------
    >>> differing({"seed": 1, "radio": {"x": 2}}, {"seed": 1, "radio": {"x": 3, "y": 4}})
    {'radio.x': (2, 3), 'radio.y': (None, 4)}
    """
    was, now = dict(leaves(before)), dict(leaves(after))
    found = {path: (was.get(path), now.get(path)) for path in dict.fromkeys((*was, *now))}
    return {path: (old, new) for path, (old, new) in found.items() if old != new}


def written_long(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario written out with ``[trainable]`` in the place of its short form ``[lora]``."""
    if "lora" not in written:
        return dict(written)
    rest = {name: value for name, value in written.items() if name != "lora"}
    return {**rest, "trainable": {"kind": "lora", **written["lora"]}}
