"""Results as tidy tables, CSV or Parquet, for other programs."""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from cosim.cli.views import make_folder
from cosim.errors import RecordError
from cosim.files import check_outputs, write_output
from cosim.record.folder import Record
from cosim.record.reading import TableName
from cosim.record.summaries import LEVELS
from cosim.report.page.comparison_page import run_titles
from cosim.studies.results import Results

_TABLES: tuple[TableName, ...] = ("spans", "metrics", "rounds", "grants")
_SHORT: tuple[TableName, ...] = ("phases", "outliers", "totals", "metrics", "rounds")
_FORMATS = ("csv", "parquet")


def write_export(folders: Sequence[Path], out: Path, kind: str, *, force: bool) -> list[Path]:
    """Write the tables of runs, one under the other with a column ``run``, or those of a study.

    Times are in nanoseconds, ``_ns``, as recorded, and in seconds; lists, such as the spans one waited
    for, are words with spaces between in CSV.

    Raises
    ------
    RecordError
        If a folder is neither, or a file is there and ``force`` is not set, or cannot be written.
    """
    if kind not in _FORMATS:
        raise RecordError(f"--format {kind}: must be csv or parquet.")
    tables = dict(_tables(folders))
    files = {out / f"{name}.{kind}": table for name, table in tables.items()}
    make_folder(out)
    check_outputs(files, force=force)
    for path, table in files.items():
        write_output(path, _content(table, kind), force=force)
    return list(files)


def write_trace_of(folders: Sequence[Path], out: Path, what: str, kind: str, *, force: bool) -> Path:
    """Write the gains or rates that a run met, for ``radio.trace``; errors as :func:`write_export`."""
    import pyarrow

    from cosim.channel_replay import TRACED, replay_trace

    if kind not in _FORMATS or what not in TRACED:
        raise RecordError(f"--trace {what} --format {kind}: must be gain or rate, and csv or parquet.")
    if len(folders) > 1:
        raise RecordError(f"--trace {what}: is of one run, and there are {len(folders)} folders; name one.")
    path = out / f"{what}_trace.{kind}"
    make_folder(out)
    check_outputs([path], force=force)
    table = pyarrow.table(replay_trace(Record.open(folders[0]), what))
    write_output(path, _content(table, kind), force=force)
    return path


def _tables(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow import csv, parquet

    if len(folders) == 1 and (folders[0] / "results.parquet").is_file():
        path = Results.open(folders[0]).path
        for name in ("results", "curves"):
            if (path / f"{name}.parquet").is_file():
                yield name, parquet.read_table(path / f"{name}.parquet")
        yield "summary", csv.read_csv(path / "summary.csv")
        return
    records = [Record.open(folder) for folder in folders]
    titles = run_titles(records) if len(records) > 1 else [str(records[0].manifest.get("name", ""))]
    for name in _SHORT if all(one.is_short for one in records) else _TABLES:
        found = [_with_run(one.table(name), title) for one, title in zip(records, titles, strict=True)]
        yield name, pyarrow.concat_tables(found, promote_options="permissive")


def _with_run(table: Any, title: str) -> Any:
    """Return a table with the name of its run, and its times in seconds, too."""
    import pyarrow
    from pyarrow import compute

    for name in [one for one in table.column_names if one.endswith("s_ns")]:  # lists of quantiles
        lists = table[name].combine_chunks()
        if pyarrow.types.is_list(lists.type):
            each = lists.flatten().to_numpy().reshape(-1, len(LEVELS))
            table = table.drop_columns([name])
            for level, values in zip(LEVELS, each.T, strict=True):
                table = table.append_column(f"{name.removesuffix('s_ns')}_{level}_ns", pyarrow.array(values))
    for name in [one for one in table.column_names if one.endswith("_ns")]:
        seconds = compute.divide(table[name].cast("float64"), 1e9)
        table = table.append_column(f"{name.removesuffix('_ns')}_s", seconds)
    return table.add_column(0, "run", pyarrow.array([title] * table.num_rows, pyarrow.string()))


def _content(table: Any, kind: str) -> bytes:
    import pyarrow
    from pyarrow import csv, parquet

    content = BytesIO()
    if kind == "parquet":
        parquet.write_table(table, content)
        return content.getvalue()
    columns: Mapping[str, Any] = {
        name: pyarrow.array(_words(table[name].to_pylist()), pyarrow.string())
        if pyarrow.types.is_list(table.schema.field(name).type)
        else table[name]
        for name in table.column_names
    }
    csv.write_csv(pyarrow.table(dict(columns)), content)
    return content.getvalue()


def _words(lists: Sequence[Sequence[Any] | None]) -> list[str]:
    return [" ".join(map(str, one or ())) for one in lists]
