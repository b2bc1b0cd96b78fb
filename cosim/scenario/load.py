"""From a file to a scenario, from a scenario to another one, and back to a file."""

import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache, partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cosim.errors import ScenarioError
from cosim.scenario.faults import faults
from cosim.scenario.inputs import digests
from cosim.scenario.settings import Scenario


def load(path: Path | str) -> Scenario:
    """Return the scenario in a TOML file; paths in it count from the file's folder.

    Raises
    ------
    ScenarioError
        With every fault of the file, one a line.
    """
    path = Path(path)
    given = read_toml(path)
    given.setdefault("name", path.stem)
    return _validate(given, str(path), path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file has.

    Raises
    ------
    ScenarioError
        If it cannot be read.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ScenarioError(f"{path}: there is no such file.") from None
    except OSError as fault:
        raise ScenarioError(f"{path}: cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError as fault:
        raise ScenarioError(f"{path}: is not UTF-8 text at byte {fault.start}; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as fault:
        raise ScenarioError(f"{path}: is not TOML: {fault}.") from None


def change(
    scenario: Scenario,
    changes: Mapping[str, Any],
    seed: int | None = None,
    source: str = "--set",
    folder: Path | None = None,
) -> Scenario:
    """Return the scenario with settings changed by their paths; checked as a file would be.

    A new ``kind`` starts a fresh table: the old kind's settings are dropped. None
    leaves a setting out. Relative paths among the new values count from ``folder``,
    the current one without it; ``source`` begins the line of each fault.

    Raises
    ------
    ScenarioError
        With every fault the changes make.

    Examples
    --------
    >>> wider = change(Scenario(name="x"), {"radio.main_uplink.bandwidth_hz": 20e6})
    >>> wider.radio.main_uplink.bandwidth_hz
    20000000.0
    """
    given = to_dict(scenario)
    if seed is not None:
        given["seed"] = seed
    for path in sorted(changes, key=lambda path: not path.endswith("kind")):
        _set(given, path, changes[path], source)
    return _validate(given, source, folder or Path.cwd())


def parse_change(text: str) -> tuple[str, Any]:
    """Return path and value of ``path=value``; the value as TOML has it, or else a text.

    No value, None, leaves the setting out.

    Raises
    ------
    ScenarioError
        If there is no ``=``.

    Examples
    --------
    >>> parse_change("radio.fading={kind = 'rician', k_factor = 3}")
    ('radio.fading', {'kind': 'rician', 'k_factor': 3})
    >>> parse_change("name=wide")
    ('name', 'wide')
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ScenarioError(f"--set {text}: must be path=value, such as radio.noise_figure_db=7.")
    if not value.strip():
        return path.strip(), None
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path.strip(), value.strip()


def to_dict(scenario: Scenario) -> dict[str, Any]:
    """Return every setting in force, defaults written out, as a file would have it."""
    dumped: dict[str, Any] = scenario.model_dump(mode="json", exclude_none=True)
    cleaned: dict[str, Any] = _without_none(dumped)
    return cleaned


def to_toml(scenario: Scenario) -> str:
    """Return the file that gives this scenario again, every default written out."""
    import tomli_w

    return tomli_w.dumps(to_dict(scenario))


def run_hash(scenario: Scenario) -> str:
    """Return a hash, hex, of everything the scenario says, and of what is in files and folders it names."""
    return _run_hash(scenario, digests(scenario))


def run_hash_by_names(scenario: Scenario) -> str:
    """Return the hash as it was when folders counted by name; for runs that say nothing of their inputs."""
    return _run_hash(scenario, {})


def _run_hash(scenario: Scenario, digests: Mapping[str, str]) -> str:
    """Return the hash with these digests of files in folders."""
    told = blake2b(to_toml(scenario).encode(), digest_size=16)
    for path in paths_in(scenario):
        try:
            state = path.stat()
            stamp = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            content = _digest(path, stamp) if path.is_file() else ""
        except OSError:
            content = ""  # who reads it says what is wrong
        told.update(content.encode())
    for name, digest in digests.items():
        if "/" in name:
            told.update(repr((name, digest)).encode())
    return told.hexdigest()


def paths_in(value: Any) -> Iterator[Path]:
    """Return the paths in a tree of tables, in the order of the settings."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from paths_in(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from paths_in(item)


@lru_cache(maxsize=64)
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    """Return a hash of a file's content; looked up again only when it was written to or replaced."""
    with path.open("rb") as file:
        return file_digest(file, partial(blake2b, digest_size=16)).hexdigest()


def read_dict(given: dict[str, Any], source: str) -> Scenario:
    """Return the scenario that :func:`to_dict` wrote out; ``source`` begins the line of each fault.

    Raises
    ------
    ScenarioError
        With every fault, one a line.
    """
    return _validate(given, source, Path.cwd())


def _validate(given: dict[str, Any], source: str, folder: Path) -> Scenario:
    try:
        scenario = Scenario.model_validate(given)
    except ValidationError as error:
        told = faults(error, given, Scenario)
        raise ScenarioError("\n".join(f"{source}: {one}" for one in told)) from None
    located = _locate(scenario, folder.resolve())
    assert isinstance(located, Scenario)
    return located


def _set(given: dict[str, Any], path: str, value: Any, source: str) -> None:
    """Set one path; a list of one table is passed through without an index."""
    *steps, last = path.split(".")
    here: Any = given
    for step in steps:
        if isinstance(here, list):
            if not step.isdigit() or int(step) >= len(here):
                raise ScenarioError(f"{source} {path}: {step!r} must be a number from 0 to {len(here) - 1}.")
            here = here[int(step)]
        elif isinstance(here, dict):
            here = here.setdefault(step, {})
        else:
            raise ScenarioError(f"{source} {path}: {step!r} is not in a table.")
    if isinstance(here, list):
        place = ".".join(steps)
        raise ScenarioError(
            f"{source} {path}: {steps[-1]!r} is a list; name one of its tables, such as {place}.0.{last}."
        )
    if not isinstance(here, dict):
        raise ScenarioError(f"{source} {path}: {last!r} must be a setting in a table, not {here!r}.")
    if last == "kind" and here.get("kind") != value:
        here.clear()
    if value is None:
        here.pop(last, None)
    else:
        here[last] = deepcopy(value)


def _locate(value: Any, folder: Path) -> Any:
    """Make every relative path in a tree of tables absolute."""
    if isinstance(value, Path):
        expanded = value.expanduser()
        return expanded if expanded.is_absolute() else (folder / expanded).resolve()
    if isinstance(value, BaseModel):
        located = {name: _locate(getattr(value, name), folder) for name in type(value).model_fields}
        moved = {name: new for name, new in located.items() if new is not getattr(value, name)}
        return value.model_copy(update=moved) if moved else value
    if isinstance(value, tuple):
        items = tuple(_locate(item, folder) for item in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value
