"""What a scenario reads beside itself: hashes of the files, and of the folders' files, that it names."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cosim.learning.base import Base
from cosim.learning.base.checkpoint import hash_file
from cosim.learning.data import DataSource
from cosim.parts import Part, Table
from cosim.scenario.remembered import remembered


def inputs(value: Any) -> dict[str, Path]:
    """Return the files that settings name, by the setting; of a folder those that count, by place in it.

    What counts in a folder is for the part to say that names it.
    """
    return {name: path for place, named, part in _named(value) for name, path in _files(place, named, part)}


def digests(value: Any) -> dict[str, str]:
    """Return a hash, hex, of each of the :func:`inputs`, by name.

    One that cannot be read has none: who reads it says what is wrong.
    """
    found: dict[str, str] = {}
    for name, path in inputs(value).items():
        try:
            found[name] = hash_file(path).hex()
        except OSError:
            continue
    return found


def fetched(value: Any) -> dict[str, str]:
    """Return a hash, hex, of what parts fetch by a name that may come to mean something else, by the setting.

    Raises
    ------
    ScenarioError
        If it cannot be fetched.
    """
    return {place: part.content_key() for place, part in _fetching(value)}


def first_other(value: Any, began_with: Mapping[str, str]) -> str | None:
    """Return which input is not the one it was, None if all are.

    Parameters
    ----------
    began_with
        :func:`digests` as they were, and :func:`fetched` if that is to be the same, too.

    Raises
    ------
    ScenarioError
        If something cannot be fetched.
    """
    now = digests(value)
    if not began_with.keys().isdisjoint(place for place, _ in _fetching(value)):  # it takes long
        now |= fetched(value)
    paths = {place: path for place, path, _ in _named(value)}
    for name in sorted(now.keys() | began_with.keys()):
        if now.get(name) != began_with.get(name):
            place, _, within = name.partition("/")
            return str(paths[place] / within) if place in paths else f"what {place} names"
    return None


def paths_in(value: Any) -> list[Path]:
    """Return the paths in a tree of tables, in the order of the settings."""
    return [path for _, path, _ in _named(value)]


def _named(value: Any) -> list[tuple[str, Path, Part | None]]:
    """Return each path in a tree of tables: its setting, itself, and the part that has it."""
    return [
        (place, inner, owner if isinstance(owner, Part) else None)
        for place, inner, owner in _telling(value)
        if isinstance(inner, Path)
    ]


def _fetching(value: Any) -> list[tuple[str, Base | DataSource]]:
    return [(place, inner) for place, inner, _ in _telling(value) if isinstance(inner, Base | DataSource)]


@remembered
def _telling(value: Any) -> list[tuple[str, Any, Any]]:
    """Return the settings that may name something elsewhere, each with its place and what it is in."""
    every = _settings(value, "")
    return [one for one in every if isinstance(one[1], Path) or getattr(one[1], "is_fetched", False)]


def _settings(value: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Return all in a tree of tables, lists and tables by name, each with its place and what it is in."""
    within: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Table):
        within = ((f".{name}" if place else name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        within = ((f".{name}", item) for name, item in items)
    for name, inner in within:
        yield place + name, inner, value
        yield from _settings(inner, place + name)


def _files(place: str, named: Path, part: Part | None) -> Iterator[tuple[str, Path]]:
    if part is None or not named.is_dir():
        yield place, named
        return
    try:
        files = sorted(part.files_in(named))
    except OSError:  # who reads it says what is wrong
        files = []
    for path in files:
        yield f"{place}/{path.relative_to(named).as_posix()}", path
