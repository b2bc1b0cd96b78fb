"""Manifests read back: whole, of a known format, and with fields of the right type."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cosim.errors import RecordError
from cosim.record.digests import damaged_file, is_sealed, is_unverified

_log = logging.getLogger(__name__)

Duration = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Fields(BaseModel):
    """What a manifest may hold; entries that are not named here are free."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class Digest(_Fields):
    """Size and hash of a file."""

    bytes: Count
    blake2b: str


class Works(_Fields):
    """How many nodes of the training were computed, and how many recalled."""

    computed: Count
    recalled: Count


class RunFields(_Fields):
    """The fields of a run's manifest that readers use."""

    status: Literal["running", "complete", "failed", "diverged", "timed"]
    name: str = ""
    seed: Count = 0
    timing_only: bool = False
    scenario: str = ""
    reason: str = ""
    simulated_s: Duration = 0.0
    wall_s: Duration = 0.0
    works: Works | None = None
    plan: dict[str, Any] | None = None
    store_warning: str | None = None
    notes: list[str] = []
    labels: list[str] = []
    versions: dict[str, Any] = {}
    commit: str | None = None
    fingerprints: dict[str, str] = {}
    files: dict[str, Digest] = {}
    files_before: dict[str, Digest | None] = {}


class Case(_Fields):
    """One case of a study."""

    name: str
    folder: str = ""
    baseline: str | None = None
    settings: dict[str, Any] = {}
    role: str | None = None
    row: int = -1


class Measured(_Fields):
    """One measure of a study."""

    name: str
    unit: str = ""
    better: str = "neither"


class Failed(_Fields):
    """One run of a study that failed."""

    case: str
    replication: Count
    reason: str


class StudyFields(_Fields):
    """The fields of a study's manifest that readers use."""

    kind: Literal["study"]
    status: Literal["running", "complete", "stopped"]
    name: str = ""
    description: str = ""
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    interval: str = "t"
    until: str | None = None
    tight: bool | None = None
    replications: Count = 0
    seeds: list[int] = []
    wall_s: Duration = 0.0
    workers: Count = 0
    versions: dict[str, Any] = {}
    measures: list[Measured] = []
    cases: list[Case] = []
    factors: list[str] = []
    failed: list[Failed] = []
    files: dict[str, Digest] = {}
    files_before: dict[str, Digest | None] = {}


class Manifest(dict[str, Any]):
    """The entries of a manifest; one that is asked for and not there is a fault of the file, in one line."""

    def __init__(self, path: Path, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise RecordError(f"{self._path}: has no {name!r}; the file is not one that cosim wrote.")


def read_manifest(folder: Path, fields: type[_Fields], *, what: str, format_: int, way_out: str) -> Manifest:
    """Return the manifest of a folder.

    Parameters
    ----------
    folder
        Where ``manifest.json`` is.
    fields
        The fields it has, with their types.
    what
        What the folder should be, such as ``run folder``.
    format_
        The format this version reads.
    way_out
        What to do about a manifest that is damaged or of another format.

    Raises
    ------
    RecordError
        If it is not there, cannot be read, was changed, or is of another format.
    """
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
        entries = json.loads(content)
    except FileNotFoundError:
        raise RecordError(f"{folder}: is no {what}: it has no manifest.json.") from None
    except NotADirectoryError:
        raise RecordError(f"{folder}: is a file, and no {what}.") from None
    except OSError as fault:
        raise RecordError(f"{path}: cannot be read: {fault.strerror or fault}.") from None
    except (ValueError, RecursionError) as fault:
        raise RecordError(f"{path}: cannot be read: {fault}; {way_out}.") from None
    if not isinstance(entries, dict):
        raise RecordError(f"{path}: cannot be read: it is not a table.")
    is_study = entries.get("kind") == "study"
    if is_study != ("kind" in fields.model_fields):
        inside = f"one of its runs, in {folder / 'runs'}" if is_study else "another"
        raise RecordError(f"{folder}: is no {what}{', but a study' if is_study else ''}; name {inside}.")
    if entries.get("format") != format_:
        raise RecordError(
            f"{folder}: is a {what} of format {entries.get('format')}, this version of cosim reads "
            f"{format_}; open it with {_version_of(entries)}, or {way_out}."
        )
    if is_unverified(entries):
        _say_unverified(str(folder))
    elif not is_sealed(content):
        raise RecordError(f"{path}: is damaged, or was changed after it was written; {way_out}.")
    _check(path, entries, fields)
    return Manifest(path, entries)


def read_study(folder: Path, *, format_: int, is_for_replay: bool = False) -> Manifest:
    """Return the manifest of a study's folder, and verify its results unless they will be written again.

    Raises
    ------
    RecordError
        As :func:`read_manifest` does, or if a file is not what was written.
    """
    again = f"cosim study {folder / 'study.toml'} --out"
    way_out = f"carry it out again: {again} ANOTHER"
    manifest = read_manifest(folder, StudyFields, what="study folder", format_=format_, way_out=way_out)
    damaged = None if is_for_replay else damaged_file(folder, manifest)
    if damaged is not None:
        way_out = f"write it again from the runs: {again} {folder}"
        if damaged == "study.toml":
            way_out = "give the command of the study again, which writes it"
        raise RecordError(f"{folder / damaged}: is damaged, or was changed after it was written; {way_out}")
    return manifest


def _version_of(entries: Mapping[str, Any]) -> str:
    """Return which cosim wrote a manifest, as far as it says so."""
    versions = entries.get("versions")
    version = versions.get("cosim") if isinstance(versions, dict) else None
    commit = entries.get("commit")
    if not isinstance(version, str):
        return "the version that wrote it"
    return f"cosim {version}" + (f" of commit {commit[:12]}" if isinstance(commit, str) else "")


def _check(path: Path, entries: Mapping[str, Any], fields: type[_Fields]) -> None:
    try:
        fields.model_validate(entries)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        wrong = first["msg"][:1].lower() + first["msg"][1:]
        raise RecordError(f"{path}: {place}: {wrong}; the file is not one that cosim wrote.") from None


_said: list[str] = []


def _say_unverified(folder: str) -> None:
    """Say once in a process that a folder has no digests; a study may have thousands of them."""
    if not _said:
        _said.append(folder)
        _log.warning(
            "%s: was written by a version of cosim that kept no digests; its files are not verified.", folder
        )
