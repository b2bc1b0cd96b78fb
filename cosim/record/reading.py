"""A run read back from its folder: its tables, each verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cosim.errors import RecordError
from cosim.locks import is_held
from cosim.record.digests import damaged_file, read_table
from cosim.record.log import Log
from cosim.record.manifest import Manifest, RunFields, read_manifest
from cosim.record.notebook import as_html
from cosim.record.pieces import pieces_of
from cosim.record.tables import refuse_other_columns, tables_of, with_parents, with_subchannels

FORMAT = 4
SCENARIO = "scenario.toml"
LOCK = ".lock"
TABLES = ("spans", "causes", "metrics", "grants", "rounds", "phases", "outliers", "totals")

_FORMER_COLUMNS = {"work": "node"}
"""What columns were called in runs of before, with what they are called now."""

Status = Literal["running", "complete", "failed", "diverged", "timed"]
TableName = Literal["spans", "causes", "metrics", "grants", "rounds", "phases", "outliers", "totals"]


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
        if damaged == SCENARIO:
            raise RecordError(
                f"{self.path}: scenario.toml is not the one the run began with; "
                f"run it as a new one: cosim run {self.scenario_path}"
            )
        if damaged is not None:
            raise RecordError(
                f"{self.path / damaged}: is damaged, or was changed after it was written; "
                f"play the run again: cosim resume {self.path}"
            )
        for name in TABLES:
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
    def state(self) -> str:
        """How the run stands: its status, or ``killed``."""
        return "killed" if self.was_killed else self.status

    @property
    def was_killed(self) -> bool:
        """Whether its process is gone and has not said how the run ended."""
        return self.status == "running" and (self.path / LOCK).exists() and not is_held(self.path / LOCK)

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
    def rounds(self) -> Any:
        """One row per round, in the order in which they began, a :class:`pyarrow.Table`."""
        return self._table("rounds")

    def columns(self, name: TableName, columns: Sequence[str] | None = None) -> Any:
        """Return some columns of one of the tables, all without them; the others are not read.

        Spans have ``cause``, the number of a row of ``causes``, in place of their ``parents``.
        """
        table = self._table(name, None if columns is None else list(columns))
        return with_subchannels(table) if name == "grants" else table

    def table(self, name: TableName) -> Any:
        """Return one of the tables whole, a :class:`pyarrow.Table`; those of summaries have no property."""
        return getattr(self, name) if hasattr(type(self), name) else self.columns(name)

    def frame(self, name: TableName) -> Any:
        """Return one of the tables as a :class:`pandas.DataFrame`.

        Raises
        ------
        RecordError
            If it cannot be read, or pandas is not installed.
        """
        table = self.table(name)
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
        import pyarrow

        try:
            files = pieces_of(name, self.manifest.get("files", {})) or [file_of(name)]
            table = pyarrow.concat_tables([read_table(self.path / one, columns) for one in files])
        except FileNotFoundError:
            now = _manifest(self.path) if self.status == "running" else self.manifest
            if now != self.manifest:  # its tables have taken the place of pieces meanwhile
                return Record(self.path, now)._table(name, columns)
            if self.is_short and name in ("spans", "causes", "grants"):
                timing = " --timing-only" if self.manifest["timing_only"] else ""
                raise RecordError(
                    f"{self.path}: keeps summaries in place of {name}; for {name}, run it again: cosim run "
                    f"{self.scenario_path} --set record=spans{timing} --out ANOTHER"
                ) from None
            if self._has_pieces:  # but none of this table, which had no rows yet
                empty = tables_of(Log())[name]
                return empty if columns is None else empty.select(columns)
            raise RecordError(self._without(name)) from None
        return table.rename_columns([_FORMER_COLUMNS.get(one, one) for one in table.column_names])

    @property
    def _has_pieces(self) -> bool:
        return any(pieces_of(name, self.manifest.get("files", {})) for name in TABLES)

    def _without(self, name: str) -> str:
        """Return why there is no such table."""
        if self.was_killed:
            return (
                f"{self.path}: was killed before {name} were recorded; begin again: cosim resume {self.path}"
            )
        return f"{self.path}: has no {name}.parquet; the run is {self.state}."


def _manifest(folder: Path) -> Manifest:
    way_out = f"play it again: cosim run {folder / SCENARIO} --out ANOTHER"
    return read_manifest(folder, RunFields, what="run folder", format_=FORMAT, way_out=way_out)


def file_of(table: str) -> str:
    """Return the name of the file of a table."""
    return f"{table}.parquet"
