"""The run folder: written whole by a run, read back as a :class:`Record`.

Its files and columns are a contract with other programs; ``FORMAT`` counts
their versions.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from cosim.errors import DivergedError, RecordError
from cosim.files import output_faults, remove_leftovers, temporary_beside, write_whole
from cosim.locks import lock_file
from cosim.record.digests import (
    digest_of,
    digest_of_file,
    files_there,
    replacing_files,
    sealed,
    table_bytes,
)
from cosim.record.fingerprints import fingerprints
from cosim.record.log import Log
from cosim.record.pieces import Pieces, pieces_of, whole
from cosim.record.reading import FORMAT as FORMAT
from cosim.record.reading import LOCK, SCENARIO, TABLES, Status, file_of
from cosim.record.reading import Record as Record
from cosim.record.tables import (
    rounds_table,
    summaries_of,
    tables_of,
)

if TYPE_CHECKING:
    import pyarrow

_WRITE_EVERY_S = 5.0
_MOST_PIECES = 50  # of equally long times; of a long run a piece is as much of it
_PATIENCE = 50.0  # times what it took to write, until it writes again
_OF_ITS_END = (
    *("reason", "fingerprints", "simulated_s", "wall_s", "works", "store_warning", "plan"),
    *("files_before", "digest"),
)
"""Entries of a manifest that a run has not yet when it is played again."""


class RunFolder:
    """A run folder while its run goes on.

    The folder is marked ``running`` from the start; a manifest is replaced
    whole or not at all.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self._manifest: dict[str, Any] = {"format": FORMAT, "status": "running", **manifest}
        self._manifest.setdefault("files", {})
        self._began_s = monotonic()
        self._next_write_s, self._pieces = self._began_s + _WRITE_EVERY_S, Pieces(path)

    @classmethod
    def create(
        cls, path: Path, scenario_toml: str, manifest: Mapping[str, Any], status: Status = "running"
    ) -> "RunFolder":
        """Make the folder, with the scenario and a manifest that says ``running``, or else its status.

        A new folder is there with all it needs, or not at all. An empty one that is
        there is used as it is: it may be a mount, or where the user is.

        Raises
        ------
        RecordError
            If there is anything at ``path`` already; nothing is overwritten.
        """
        try:
            is_there = path.exists()
            if is_there and (not path.is_dir() or any(path.iterdir())):
                raise RecordError(f"{path}: exists already; {_way_out(path)}.")
            place = path if is_there else temporary_beside(path)
            with ExitStack() as undo:
                if not is_there:
                    place.mkdir(parents=True)
                    undo.callback(shutil.rmtree, place, ignore_errors=True)
                folder = cls(place, manifest)
                undo.callback(folder._take_back)
                folder._manifest["files"][SCENARIO] = digest_of(scenario_toml.encode())
                write_whole(place / SCENARIO, scenario_toml.encode(), durable=False)
                folder.mark(status)
                if not is_there:
                    place.replace(path)
                undo.pop_all()
        except OSError as fault:
            raise RecordError(
                f"{path}: cannot be made: {fault.strerror or fault}; name another with --out."
            ) from None
        folder.path, folder._pieces = path, Pieces(path)
        return folder

    def _take_back(self) -> None:
        for name in (SCENARIO, "manifest.json"):
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)

    @classmethod
    def reopen(cls, record: "Record", made_of: Mapping[str, Any]) -> "RunFolder":
        """Return the folder of a run that was stopped, to be played again by what it is ``made_of`` now."""
        manifest = {key: value for key, value in record.manifest.items() if key not in _OF_ITS_END}
        files = {**files_there(record.path, record.manifest), SCENARIO: digest_of_file(record.scenario_path)}
        kept = {
            SCENARIO,
            *map(file_of, TABLES),
            *(one for name in TABLES for one in pieces_of(name, files)),
        }
        manifest["files"] = {name: one for name, one in files.items() if name in kept}
        return cls(record.path, {**manifest, **made_of})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while its run goes on.

        Raises
        ------
        RecordError
            If another process holds it.
        """
        with ExitStack() as lock:
            with self.writing():
                try:
                    lock.enter_context(lock_file(self.path / LOCK, waits=False))
                except BlockingIOError:
                    raise RecordError(f"{self.path}: the run is still going on in another process.") from None
                remove_leftovers(self.path)
            with self._ended():
                yield

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Mark the run as failed, whatever ends it, unless its end has been written."""
        try:
            yield
        except BaseException as fault:
            if self._manifest["status"] == "running":
                with suppress(OSError):  # the disk may be full; why the run stopped is what matters
                    self.mark("failed", reason=reason_of(fault))
            raise

    def writing(self) -> AbstractContextManager[None]:
        """Tell a disk that is full, or a folder that cannot be written, in a line.

        Raises
        ------
        RecordError
            In place of an OSError; what was written before stays.
        """
        return output_faults(self.path, f"mend that, then go on with it by cosim resume {self.path}")

    def learned_files(self, task: str = "") -> list[Path]:
        """Return the files of what was trained, adapters or whole models; of one task if it is named."""
        folders = [self.path / name / task for name in ("adapter", "model")]
        return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())

    def mark(self, status: Status, **entries: Any) -> None:
        """Replace the manifest, with ``entries`` added."""
        self._manifest.update(entries, status=status)
        content = sealed(self._manifest)
        write_whole(self.path / "manifest.json", content, durable=status not in ("running", "timed"))

    def keep_up(self, log: Log) -> None:
        """Write what was recorded so far, now and then, so that a run can be looked at while it goes."""
        began = monotonic()
        if began < self._next_write_s:
            return
        if self._is_short:
            self._write(log, durable=False)
        else:
            self._manifest["files"] = self._pieces.write(log, self._manifest["files"])
            contents = {file_of("rounds"): table_bytes(rounds_table(log.rounds))}
            with replacing_files(self.path, contents, self._manifest, durable=False):
                self.mark("running")
            self._pieces.sweep(self._manifest["files"])
        now = monotonic()
        wait_s = max(_WRITE_EVERY_S, (now - self._began_s) / _MOST_PIECES, _PATIENCE * (now - began))
        self._next_write_s = now + wait_s

    @property
    def _is_short(self) -> bool:
        return self._manifest.get("record") == "summary"

    def _write(self, log: Log, *, durable: bool) -> "dict[str, pyarrow.Table]":
        """Write the tables, each whole or not at all; the manifest always fits what is there."""
        tables = summaries_of(log) if self._is_short else tables_of(log)
        contents = {file_of(name): table_bytes(table) for name, table in tables.items()}
        with replacing_files(self.path, contents, self._manifest, durable=durable):
            self.mark("running")
        return tables

    def finish(self, log: Log, status: Status, **entries: Any) -> None:
        """Write all that was recorded, with its fingerprints, and mark the run.

        The tables are written for a failed run too, as far as it came.
        """
        tables = self._write(log, durable=True)
        tasks = dict.fromkeys(name for name in log.rounds.task if name)
        found = fingerprints(tables, tasks, self.learned_files)
        if status == "complete":
            files = {path.relative_to(self.path).as_posix(): path for path in self.learned_files()}
            digests = {name: digest_of_file(path) for name, path in files.items()}
            self._manifest["files"] = {**self._manifest["files"], **digests}
        self._manifest["files"] = whole(self._manifest["files"])
        self.mark(status, fingerprints=found, **entries)
        self._pieces.sweep(self._manifest["files"])

    def fail(self, log: Log, fault: BaseException, **entries: Any) -> None:
        """Mark a run that something stopped, with as much of what was recorded as can be written."""
        reason = reason_of(fault)
        status: Status = "diverged" if isinstance(fault, DivergedError) else "failed"
        try:
            self.finish(log, status, reason=reason, **entries)
        except Exception:  # a full disk, or numbers no table can hold: the reason above is what matters
            with suppress(OSError):
                self.mark(status, reason=reason, **entries)


def reason_of(fault: BaseException) -> str:
    """Return why a run stopped."""
    return str(fault) or type(fault).__name__


def _way_out(path: Path) -> str:
    if path.is_dir() and (path / "manifest.json").is_file():
        record = Record.open(path, is_for_replay=True)
        if not record.has_ended:
            return f"it is a run that is {record.status}: go on with it by cosim resume {path}"
    return "name another folder with --out, or remove it"
