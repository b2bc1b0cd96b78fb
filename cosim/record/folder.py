"""The run folder: written whole by a run, read back as a :class:`Record`.

Its files and columns are a contract with other programs; ``FORMAT`` counts
their versions.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from cosim.errors import DivergedError, RecordError
from cosim.files import remove_leftovers, temporary_beside, write_whole
from cosim.locks import lock_file
from cosim.record.digests import (
    damaged_file,
    digest_of,
    digest_of_file,
    files_there,
    read_table,
    replacing_files,
    sealed,
    table_bytes,
)
from cosim.record.fingerprints import fingerprints
from cosim.record.log import Log
from cosim.record.manifest import Manifest, RunFields, read_manifest
from cosim.record.notebook import as_html
from cosim.record.tables import refuse_other_columns, summaries_of, tables_of, with_parents, with_subchannels

if TYPE_CHECKING:
    import pyarrow

FORMAT = 4
_WRITE_EVERY_S = 5.0
_SCENARIO = "scenario.toml"
_TABLES = ("spans", "causes", "metrics", "grants", "rounds", "phases", "outliers", "totals")
_OF_ITS_END = (
    *("reason", "fingerprints", "simulated_s", "wall_s", "works", "store_warning", "plan"),
    *("files_before", "digest"),
)
"""Entries of a manifest that a run has not yet when it is played again."""

_FORMER_COLUMNS = {"work": "node"}
"""What columns were called in runs of before, with what they are called now."""

Status = Literal["running", "complete", "failed", "diverged", "timed"]
TableName = Literal["spans", "causes", "metrics", "grants", "rounds", "phases", "outliers", "totals"]


class RunFolder:
    """A run folder while its run goes on.

    The folder is marked ``running`` from the start; a manifest is replaced
    whole or not at all.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self._manifest: dict[str, Any] = {"format": FORMAT, "status": "running", **manifest}
        self._manifest.setdefault("files", {})
        self._next_write_s = monotonic() + _WRITE_EVERY_S

    @classmethod
    def create(cls, path: Path, scenario_toml: str, manifest: Mapping[str, Any]) -> "RunFolder":
        """Make the folder, with the scenario and a manifest that says ``running``.

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
                folder._manifest["files"][_SCENARIO] = digest_of(scenario_toml.encode())
                write_whole(place / _SCENARIO, scenario_toml.encode(), durable=False)
                folder.mark("running")
                if not is_there:
                    place.replace(path)
                undo.pop_all()
        except OSError as fault:
            raise RecordError(
                f"{path}: cannot be made: {fault.strerror or fault}; name another with --out."
            ) from None
        folder.path = path
        return folder

    def _take_back(self) -> None:
        for name in (_SCENARIO, "manifest.json"):
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)

    @classmethod
    def reopen(cls, record: "Record", made_of: Mapping[str, Any]) -> "RunFolder":
        """Return the folder of a run that was stopped, to be played again by what it is ``made_of`` now."""
        manifest = {key: value for key, value in record.manifest.items() if key not in _OF_ITS_END}
        files = {**files_there(record.path, record.manifest), _SCENARIO: digest_of_file(record.scenario_path)}
        kept = (_SCENARIO, *map(_file_of, _TABLES))
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
                    lock.enter_context(lock_file(self.path / ".lock", waits=False))
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

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell a disk that is full, or a folder that cannot be written, in a line.

        Raises
        ------
        RecordError
            In place of an OSError; what was written before stays.
        """
        try:
            yield
        except OSError as fault:
            raise RecordError(
                f"{self.path}: cannot be written: {fault.strerror or fault}; mend that, "
                f"then go on with it by cosim resume {self.path}"
            ) from None

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
        if monotonic() >= self._next_write_s:
            began = monotonic()
            self._write(log, durable=False)
            self._next_write_s = monotonic() + max(_WRITE_EVERY_S, 50.0 * (monotonic() - began))

    def _write(self, log: Log, *, durable: bool) -> "dict[str, pyarrow.Table]":
        """Write the tables, each whole or not at all; the manifest always fits what is there."""
        is_short = self._manifest.get("record") == "summary"
        tables = summaries_of(log) if is_short else tables_of(log)
        contents = {_file_of(name): table_bytes(table) for name, table in tables.items()}
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
        self.mark(status, fingerprints=found, **entries)

    def fail(self, log: Log, fault: BaseException, **entries: Any) -> None:
        """Mark a run that something stopped, with as much of what was recorded as can be written."""
        reason = reason_of(fault)
        status: Status = "diverged" if isinstance(fault, DivergedError) else "failed"
        try:
            self.finish(log, status, reason=reason, **entries)
        except Exception:  # a full disk, or numbers no table can hold: the reason above is what matters
            with suppress(OSError):
                self.mark(status, reason=reason, **entries)


@dataclass(frozen=True)
class Record:
    """A finished run, read back; the only thing reports and analysis ever see.

    Attributes
    ----------
    path
        The run folder.
    manifest
        The content of ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str, *, is_for_replay: bool = False) -> "Record":
        """Return the run in a folder, every file of it verified.

        Parameters
        ----------
        path
            The folder.
        is_for_replay
            Verify the manifest alone: tables and adapter may be damaged, and what the scenario
            says is compared when it is read.

        Raises
        ------
        RecordError
            If the folder is no run, is of a format this version cannot read, or is
            not what was written.
        """
        record = cls(Path(path), _manifest(Path(path)))
        damaged = record.damaged_file()
        while damaged is not None and record.status == "running":  # or its tables were replaced meanwhile
            before, record = record, cls(record.path, _manifest(record.path))
            if record.manifest == before.manifest:
                break
            damaged = record.damaged_file()
        record._refuse_damaged(damaged, is_for_replay)
        return record

    def _refuse_damaged(self, damaged: str | None, is_for_replay: bool) -> None:
        if is_for_replay:  # a scenario is compared by what it says, not by its bytes, when it is read
            return
        if damaged == _SCENARIO:
            raise RecordError(
                f"{self.path}: scenario.toml is not the one the run began with; "
                f"run it as a new one: cosim run {self.scenario_path}"
            )
        if damaged is not None:
            raise RecordError(
                f"{self.path / damaged}: is damaged, or was changed after it was written; "
                f"play the run again: cosim resume {self.path}"
            )
        for name in _TABLES:
            refuse_other_columns(self.path, name)

    def damaged_file(self) -> str | None:
        """Return the first file that is not as it was written, by its name in the folder; None if all are.

        Always None for a folder whose manifest has no digests.
        """
        return damaged_file(self.path, self.manifest)

    @property
    def status(self) -> Status:
        """Return ``running``, ``complete``, ``failed`` or ``diverged``; ``timed`` where it has no spans yet.

        A run that the tensor clock timed is played when its spans are asked for.
        """
        status: Status = self.manifest["status"]
        return status

    @property
    def is_short(self) -> bool:
        """Whether it keeps summaries of its rounds in place of spans."""
        return self.manifest.get("record") == "summary"

    @property
    def has_ended(self) -> bool:
        """Whether the run is all there will be of it: complete, or ended where its training diverged."""
        return self.status in ("complete", "diverged")

    @property
    def spans(self) -> Any:
        """One row per piece of work, a :class:`pyarrow.Table`; ``parents`` are the spans it waited for.

        Behind a barrier of many clients these are many times many: reports read ``cause`` and ``causes``.
        """
        return with_parents(self._table("spans"), self.causes)

    @property
    def causes(self) -> Any:
        """The sets of spans that spans waited for, a row a set, a :class:`pyarrow.Table`."""
        return self._table("causes")

    @property
    def metrics(self) -> Any:
        """One row per measured value, a :class:`pyarrow.Table`."""
        return self._table("metrics")

    @property
    def grants(self) -> Any:
        """One row per change of hands of a subchannel, a :class:`pyarrow.Table`."""
        return with_subchannels(self._table("grants"))

    @property
    def phases(self) -> Any:
        """One row per round and kind of span, of a run that keeps summaries, a :class:`pyarrow.Table`."""
        return self._table("phases")

    @property
    def outliers(self) -> Any:
        """The clients of each round that were busy the longest, of such a run, a :class:`pyarrow.Table`."""
        return self._table("outliers")

    @property
    def totals(self) -> Any:
        """One row per client and kind of span, over such a run, a :class:`pyarrow.Table`."""
        return self._table("totals")

    @property
    def rounds(self) -> Any:
        """One row per round, in the order in which they began, a :class:`pyarrow.Table`."""
        return self._table("rounds")

    def columns(self, name: TableName, columns: Sequence[str]) -> Any:
        """Return some columns of one of the tables; the others are not read.

        Spans have ``cause``, the number of a row of ``causes``, in place of their ``parents``.
        """
        table = self._table(name, list(columns))
        return with_subchannels(table) if name == "grants" else table

    def frame(self, name: TableName) -> Any:
        """Return one of the tables as a :class:`pandas.DataFrame`.

        Raises
        ------
        RecordError
            If it cannot be read, or pandas is not installed.
        """
        table = getattr(self, name)
        try:
            return table.to_pandas()
        except ImportError:
            raise RecordError("a data frame needs pandas: install it by pip install pandas.") from None

    def _repr_html_(self) -> str:
        return as_html(self.path, self.manifest)

    @property
    def scenario_path(self) -> Path:
        """The scenario as it was in force; it runs again to the same bytes."""
        return self.path / "scenario.toml"

    def _table(self, name: str, columns: list[str] | None = None) -> Any:
        try:
            table = read_table(self.path / _file_of(name), columns)
        except FileNotFoundError:
            if self.is_short and name in ("spans", "causes", "grants"):
                raise RecordError(
                    f"{self.path}: keeps summaries in place of {name}; for {name}, run it again: cosim run "
                    f"{self.scenario_path} --set record=spans --out ANOTHER"
                ) from None
            raise RecordError(f"{self.path}: has no {name}.parquet; the run is {self.status}.") from None
        return table.rename_columns([_FORMER_COLUMNS.get(one, one) for one in table.column_names])


def _manifest(folder: Path) -> Manifest:
    way_out = f"play it again: cosim run {folder / _SCENARIO} --out ANOTHER"
    return read_manifest(folder, RunFields, what="run folder", format_=FORMAT, way_out=way_out)


def reason_of(fault: BaseException) -> str:
    """Return why a run stopped."""
    return str(fault) or type(fault).__name__


def _file_of(table: str) -> str:
    return f"{table}.parquet"


def _way_out(path: Path) -> str:
    if path.is_dir() and (path / "manifest.json").is_file():
        record = Record.open(path, is_for_replay=True)
        if not record.has_ended:
            return f"it is a run that is {record.status}: go on with it by cosim resume {path}"
    return "name another folder with --out, or remove it"
