"""Whether a study compares like with like: what cases differ in that nobody varied."""

from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 6


def unvaried_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Return what belongs at the top of a report of a study; nothing where cases differ only as asked.

    Examples
    --------
    >>> unvaried_lines({"unvaried": [{"told": "scheme.num_rounds 4 in a, 10 in b", "default": False}]})
    ['Cases differ in 1 setting that nobody varied: scheme.num_rounds 4 in a, 10 in b.']
    """
    found = [one for one in manifest.get("unvaried", ()) if isinstance(one, Mapping)]
    told = [
        [str(one.get("told")) for one in found if bool(one.get("default")) is which]
        for which in (False, True)
    ]
    return [
        *_line("Cases differ in {} that nobody varied", told[0]),
        *_line("Settings that only some of the kinds have, at their defaults", told[1]),
    ]


def switch_lines(manifest: Mapping[str, Any]) -> str:
    """Return what cases with other kinds than the base kept and lost."""
    return "; ".join(f"[{one}]" for one in map(str, manifest.get("switches", ())))


def _line(what: str, told: list[str]) -> Iterator[str]:
    if told:
        settings = "1 setting" if len(told) == 1 else f"{len(told)} settings"
        more = f"; and {len(told) - _MOST} more, in manifest.json" if len(told) > _MOST else ""
        yield f"{what.format(settings)}: {'; '.join(told[:_MOST])}{more}."
