"""From a file to a scenario, from a scenario to another one, and back to a file."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache, partial
from hashlib import blake2b, file_digest
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cosim.errors import ScenarioError
from cosim.leaves import written_long
from cosim.scenario.faults import faults
from cosim.scenario.former_names import current_change, with_current_names
from cosim.scenario.inputs import digests, first_other, paths_in
from cosim.scenario.limits import DEEPEST, too_long_number, unsayable, unusable_path
from cosim.scenario.remembered import remembered
from cosim.scenario.settings import Scenario
from cosim.words import clipped

_MOST_FAULTS = 20


class NotTomlError(ScenarioError):
    """A text is not TOML."""


def load(path: Path | str) -> Scenario:
    """Return the scenario in a TOML file; paths in it count from the file's folder.

    Raises
    ------
    ScenarioError
        With every fault of the file, one a line.
    """
    path = Path(path)
    given = read_toml(path)
    if "name" not in given:
        given["name"] = path.stem
        _refuse_unsayable({"name": path.stem}, f"{path}: ")
    return _validate(given, str(path), path.parent)


def load_again(path: Path) -> Scenario:
    """Return the scenario in a file, as it was read last if its content is the same."""
    try:
        return _read(path.absolute(), path.read_bytes())
    except OSError:
        return load(path)  # says why


@lru_cache(maxsize=8)
def _read(path: Path, content: bytes) -> Scenario:
    return load(path)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file has.

    Raises
    ------
    ScenarioError
        If it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except FileNotFoundError:
        raise ScenarioError(f"{path}: there is no such file.") from None
    except OSError as fault:
        raise ScenarioError(f"{path}: cannot be read: {fault.strerror}.") from None
    except UnicodeDecodeError as fault:
        raise ScenarioError(f"{path}: is not UTF-8 text at byte {fault.start}; save it as UTF-8.") from None
    given = _parse(text, f"{path}: ")
    _refuse_unsayable(given, f"{path}: ")
    return given


def _parse(text: str, begin: str) -> dict[str, Any]:
    """Return what a TOML text has; ``begin`` begins the line of a fault."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise NotTomlError(f"{begin}is not TOML: {fault}.") from None
    except RecursionError:
        raise ScenarioError(f"{begin}is nested more than {DEEPEST} deep; no setting is.") from None
    except ValueError:  # Python's own limit on the digits of a number
        raise ScenarioError(f"{begin}{too_long_number(text)}") from None


def _refuse_unsayable(given: Any, begin: str) -> None:
    found = list(islice(unsayable(given), _MOST_FAULTS))
    if found:
        raise ScenarioError("\n".join(f"{begin}{one}" for one in found))


def change(
    scenario: Scenario,
    changes: Mapping[str, Any],
    seed: int | None = None,
    source: str = "--set",
    folder: Path | None = None,
    common: Mapping[str, Any] | None = None,
) -> Scenario:
    """Return the scenario with settings changed by their paths; checked as a file would be.

    A table that gets another ``kind`` keeps what both kinds have; see
    :mod:`cosim.scenario.changes`, and :func:`cosim.scenario.differences.switches`
    for what is kept and what is not. None leaves a setting out. ``common`` are
    further changes, made only where the chosen kinds have these settings. Relative
    paths among the new values count from ``folder``, the current one without it;
    ``source`` begins the line of each fault.

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
    _refuse_unsayable(dict(changes), f"{source}: ")
    given = to_dict(scenario)
    if seed is not None:
        given["seed"] = seed
    if any(path.partition(".")[0] == "trainable" for path in changes):
        given = written_long(given)
    from cosim.scenario.changes import apply  # most scenarios are taken as they are

    apply(given, changes, source, common)
    return _validate(given, source, folder or Path.cwd())


def parse_change(text: str) -> tuple[str, Any]:
    """Return path and value of ``path=value``; the value as TOML has it, or else a text.

    No value, None, leaves the setting out. Names are those of today.

    Raises
    ------
    ScenarioError
        If there is no ``=``, or a setting is given under two names.

    Examples
    --------
    >>> parse_change("radio.fading={kind = 'rician', k_factor = 3}")
    ('radio.fading', {'kind': 'rician', 'k_factor': 3})
    >>> parse_change("name=wide")
    ('name', 'wide')
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ScenarioError(f"--set {clipped(text)}: must be path=value, such as radio.noise_figure_db=7.")
    path = path.strip()
    if not value.strip():
        return current_change(path, None)
    try:
        given = _parse(f"value = {value}", f"--set {path}: ")["value"]
    except NotTomlError:
        given = value.strip()
    try:
        return current_change(path, given)
    except ScenarioError as fault:
        raise ScenarioError(f"--set {fault}") from None


def to_dict(scenario: Scenario) -> dict[str, Any]:
    """Return every setting in force, defaults written out, as a file would have it."""
    dumped: dict[str, Any] = scenario.model_dump(mode="json", exclude_none=True)
    cleaned: dict[str, Any] = _without_none(dumped)
    return cleaned


def to_toml(scenario: Scenario) -> str:
    """Return the file that gives this scenario again, every default written out."""
    return _texts(scenario)[0]


def run_hash(scenario: Scenario) -> str:
    """Return a hash, hex, of everything the scenario says, and of what is in files and folders it names."""
    return _run_hash(scenario, digests(scenario))


def run_hash_by_names(scenario: Scenario) -> str:
    """Return the hash as it was when folders counted by name; for runs that say nothing of their inputs."""
    return _run_hash(scenario, {})


def _run_hash(scenario: Scenario, digests: Mapping[str, str]) -> str:
    """Return the hash with these digests of files in folders."""
    told = blake2b(_texts(scenario)[1].encode(), digest_size=16)
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


@remembered
def _texts(scenario: Scenario) -> tuple[str, str]:
    """Return a scenario as a file, and that without what no result depends on: trackers, and workers."""
    import tomli_w

    told = to_dict(scenario)
    whole = tomli_w.dumps(told)
    tables = (told, *told.get("tasks", {}).values())
    left_out = [told.pop("track", None), *(one.get("training", {}).pop("workers", None) for one in tables)]
    return whole, tomli_w.dumps(told) if any(left_out) else whole


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
    _refuse_unsayable(given, f"{source}: ")
    return _validate(given, source, Path.cwd())


def _validate(given: dict[str, Any], source: str, folder: Path) -> Scenario:
    """Return the scenario in a tree of sayable values."""
    try:
        given = with_current_names(given)
    except ScenarioError as fault:
        raise ScenarioError(f"{source}: {fault}") from None
    try:
        scenario = Scenario.model_validate(given)
    except ValidationError as error:
        told = faults(error, given, Scenario)
        raise ScenarioError("\n".join(f"{source}: {one}" for one in told)) from None
    located = _locate(scenario, folder.resolve(), f"{source}:")
    assert isinstance(located, Scenario)
    try:
        return located.counted()
    except ScenarioError as fault:
        raise ScenarioError(f"{source}: {fault}") from None


def _locate(value: Any, folder: Path, place: str) -> Any:
    """Make every relative path in a tree of tables absolute; ``place`` begins the line of a fault."""
    if isinstance(value, Path):
        return located(value, folder, place)
    if isinstance(value, BaseModel):
        within = f"{place} " if place.endswith(":") else f"{place}."
        moved = {
            name: _locate(getattr(value, name), folder, within + name) for name in type(value).model_fields
        }
        moved = {name: new for name, new in moved.items() if new is not getattr(value, name)}
        return value.model_copy(update=moved) if moved else value
    if isinstance(value, dict):
        tables = {name: _locate(item, folder, f"{place}.{name}") for name, item in value.items()}
        return tables if any(tables[name] is not item for name, item in value.items()) else value
    if isinstance(value, tuple):
        items = tuple(_locate(item, folder, f"{place}.{number}") for number, item in enumerate(value))
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def located(path: Path, folder: Path, place: str) -> Path:
    """Return a path that counts from a folder as an absolute one.

    Raises
    ------
    ScenarioError
        If no file system could have it; ``place`` begins the line.
    """
    try:
        expanded = path.expanduser()
    except RuntimeError:  # nobody of that name, or no home
        raise ScenarioError(f"{place}: {path}: there is no such user's home; write the path out.") from None
    found = expanded if expanded.is_absolute() else (folder / expanded).resolve()
    if why := unusable_path(found):
        raise ScenarioError(f"{place}: {why}.")
    return found


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value


def other_than_begun_with(scenario: Scenario, manifest: Mapping[str, Any]) -> str | None:
    """Return what has changed of what a run with this manifest is made from, None if nothing has."""
    began_with = manifest.get("inputs")
    if began_with is None:  # an earlier version made it
        if manifest["scenario"] in (run_hash(scenario), run_hash_by_names(scenario)):
            return None
        has_files = any(one.is_file() for one in paths_in(scenario))
        return "scenario.toml, or a file it names," if has_files else "scenario.toml"
    other = first_other(scenario, began_with)
    if other is None and run_hash(scenario) != manifest["scenario"]:
        return "scenario.toml"
    return other
