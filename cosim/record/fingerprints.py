"""Fingerprints of a run: equal for runs that recorded the same timeline, or learned the same."""

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def fingerprints(
    tables: "Mapping[str, pyarrow.Table]", tasks: Collection[str], learned_files: Callable[[str], list[Path]]
) -> dict[str, str]:
    """Return the fingerprints of a run: of its timeline, of all it learned, and of what each task learned.

    Parameters
    ----------
    tables
        Spans and causes, or what is kept in place of them, and metrics.
    tasks
        Names of its tasks; empty where there is one, which has none.
    learned_files
        Returns the files of what a task trained, or, without a name, of what all did.
    """
    timed = [tables[name] for name in ("phases", "outliers", "totals") if name in tables]
    found = {
        "timeline": _fingerprint(timed or [tables["spans"].drop_columns(["node"]), tables["causes"]]),
        "learning": _fingerprint([_learned(tables["metrics"])], learned_files("")),
    }
    for task in tasks:
        learned = _learned(tables["metrics"], task)
        found[f"learning.{task}"] = _fingerprint([learned], learned_files(task))
    return found


def _learned(metrics: Any, task: str | None = None) -> Any:
    """Keep the learned values, of one task if it is named, in an order and without instants of the air."""
    from pyarrow import compute

    chosen = compute.match_substring_regex(metrics["name"], "^(train|eval)_")
    if task is not None:
        chosen = compute.and_(chosen, compute.equal(metrics["task"], task))
    order = [(name, "ascending") for name in ("task", "round", "local_step", "actor", "name")]
    return metrics.filter(chosen).drop_columns(["time_ns"]).sort_by(order)


def _fingerprint(tables: Sequence[Any], files: Sequence[Path] = ()) -> str:
    """Hash every value of tables, column by column, and files in their order."""
    import pyarrow

    digest = blake2b(digest_size=16)
    for name, found in [(name, table.column(name)) for table in tables for name in table.column_names]:
        column = found.combine_chunks()
        digest.update(name.encode())
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, pyarrow.schema([(name, column.type)])) as writer:
            writer.write_table(pyarrow.table({name: column}))
        digest.update(sink.getvalue())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
