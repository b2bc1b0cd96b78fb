"""The run folder: written whole by a run, read back as a :class:`Record`.

Its files and columns are a contract with other programs; ``FORMAT`` counts
their versions.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from cosim.errors import RecordError
from cosim.record.log import Log
from cosim.record.notebook import as_html
from cosim.record.tables import grants_table, metrics_table, spans_table

if TYPE_CHECKING:
    import pyarrow

FORMAT = 2
_WRITE_EVERY_S = 5.0
Status = Literal["running", "complete", "failed"]


class RunFolder:
    """A run folder while its run goes on.

    The folder is marked ``running`` from the start; a manifest is replaced
    whole or not at all.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self._manifest = {"format": FORMAT, "status": "running", **manifest}
        self._next_write_s = monotonic() + _WRITE_EVERY_S

    @classmethod
    def create(cls, path: Path, scenario_toml: str, manifest: Mapping[str, Any]) -> "RunFolder":
        """Make the folder, with the scenario and a manifest that says ``running``.

        Raises
        ------
        RecordError
            If there is anything at ``path`` already; nothing is overwritten.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RecordError(f"{path}: exists already; {_way_out(path)}.")
        beside = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            beside.mkdir(parents=True)
            folder = cls(beside, manifest)
            write_whole(beside / "scenario.toml", scenario_toml.encode())
            folder.mark("running")
            beside.replace(path)  # the folder is there with all it needs, or not at all
        except OSError as fault:
            shutil.rmtree(beside, ignore_errors=True)
            raise RecordError(f"{path}: cannot be made: {fault.strerror}; name another with --out.") from None
        folder.path = path
        return folder

    @classmethod
    def reopen(cls, record: "Record", made_of: Mapping[str, Any]) -> "RunFolder":
        """Return the folder of a run that was stopped, to be played again by what it is ``made_of`` now."""
        gone = ("status", "reason", "fingerprints", "simulated_s", "wall_s", "works", "store_warning", "plan")
        kept = {key: value for key, value in record.manifest.items() if key not in gone}
        return cls(record.path, {**kept, **made_of})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while its run goes on.

        Raises
        ------
        RecordError
            If another process holds it.
        """
        path = self.path / ".lock"
        with self.writing():
            lock = path.open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RecordError(f"{self.path}: the run is still going on in another process.") from None
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

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

    @property
    def adapter_folder(self) -> Path:
        """Where the final adapter goes."""
        return self.path / "adapter"

    def mark(self, status: Status, **entries: Any) -> None:
        """Replace the manifest, with ``entries`` added."""
        self._manifest.update(entries, status=status)
        write_whole(self.path / "manifest.json", (json.dumps(self._manifest, indent=2) + "\n").encode())

    def keep_up(self, log: Log) -> None:
        """Write what was recorded so far, now and then, so that a run can be looked at while it goes."""
        if monotonic() >= self._next_write_s:
            began = monotonic()
            self._write(log)
            self._next_write_s = monotonic() + max(_WRITE_EVERY_S, 50.0 * (monotonic() - began))

    def _write(self, log: Log) -> "dict[str, pyarrow.Table]":
        """Write the tables, each whole or not at all."""
        from pyarrow import parquet

        tables = {
            "spans": spans_table(log.spans),
            "metrics": metrics_table(log.metrics),
            "grants": grants_table(log.grants),
        }
        for name, table in tables.items():
            temporary = self.path / f".{name}.parquet"
            parquet.write_table(table, temporary)
            temporary.replace(self.path / f"{name}.parquet")
        return tables

    def finish(self, log: Log, status: Status, **entries: Any) -> None:
        """Write all that was recorded, with its fingerprints, and mark the run.

        The tables are written for a failed run too, as far as it came.
        """
        tables = self._write(log)
        fingerprints = {
            "timeline": _fingerprint(tables["spans"].drop_columns(["work"])),
            "learning": _fingerprint(_learned(tables["metrics"]), self.adapter_folder),
        }
        self.mark(status, fingerprints=fingerprints, **entries)


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
    def open(cls, path: Path | str) -> "Record":
        """Return the run in a folder.

        Raises
        ------
        RecordError
            If the folder is no run, or one of a format this version cannot read.
        """
        path = Path(path)
        try:
            manifest = json.loads((path / "manifest.json").read_text())
        except FileNotFoundError:
            raise RecordError(f"{path}: is no run folder: it has no manifest.json.") from None
        except (OSError, ValueError) as fault:
            raise RecordError(f"{path}/manifest.json: cannot be read: {fault}.") from None
        if not isinstance(manifest, dict):
            raise RecordError(f"{path}/manifest.json: cannot be read: it is not a table.")
        if manifest.get("format") != FORMAT:
            raise RecordError(
                f"{path}: is of format {manifest.get('format')}, this version of cosim reads {FORMAT}; "
                "open it with the version its manifest names, or play it again: "
                f"cosim run {path / 'scenario.toml'} --out ANOTHER."
            )
        return cls(path, manifest)

    @property
    def status(self) -> Status:
        """Return ``running``, ``complete`` or ``failed``."""
        status: Status = self.manifest["status"]
        return status

    @property
    def spans(self) -> Any:
        """One row per piece of work, a :class:`pyarrow.Table`."""
        return self._table("spans")

    @property
    def metrics(self) -> Any:
        """One row per measured value, a :class:`pyarrow.Table`."""
        return self._table("metrics")

    @property
    def grants(self) -> Any:
        """One row per change of hands of a subchannel, a :class:`pyarrow.Table`."""
        return self._table("grants")

    def columns(self, name: Literal["spans", "metrics", "grants"], columns: Sequence[str]) -> Any:
        """Return some columns of one of the tables; the others are not read."""
        return self._table(name, list(columns))

    def frame(self, name: Literal["spans", "metrics", "grants"]) -> Any:
        """Return one of the tables as a :class:`pandas.DataFrame`.

        Raises
        ------
        RecordError
            If it cannot be read, or pandas is not installed.
        """
        table = self._table(name)
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
        from pyarrow import parquet

        try:
            return parquet.read_table(self.path / f"{name}.parquet", columns=columns)
        except FileNotFoundError:
            raise RecordError(f"{self.path}: has no {name}.parquet; the run is {self.status}.") from None
        except (OSError, ValueError) as fault:
            raise RecordError(f"{self.path}/{name}.parquet: cannot be read: {fault}.") from None


def _way_out(path: Path) -> str:
    if path.is_dir() and (path / "manifest.json").is_file():
        status = Record.open(path).status
        if status != "complete":
            return f"it is a run that is {status}: go on with it by cosim resume {path}"
    return "name another folder with --out, or remove it"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _learned(metrics: Any) -> Any:
    """Keep the learned values, without their instants and in an order no channel decides."""
    from pyarrow import compute

    chosen = compute.match_substring_regex(metrics["name"], "^(train|eval)_")
    order = [(name, "ascending") for name in ("round", "local_step", "actor", "name")]
    return metrics.filter(chosen).drop_columns(["time_ns"]).sort_by(order)


def _fingerprint(table: Any, folder: Path | None = None) -> str:
    """Hash every value of a table, column by column, and every file of a folder."""
    import pyarrow

    digest = blake2b(digest_size=16)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        digest.update(name.encode())
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, pyarrow.schema([(name, column.type)])) as writer:
            writer.write_table(pyarrow.table({name: column}))
        digest.update(sink.getvalue())
    for path in sorted(folder.rglob("*")) if folder is not None and folder.is_dir() else ():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
