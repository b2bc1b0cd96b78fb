"""The tables of a run folder: their columns, types and units."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.errors import RecordError
from cosim.record.digests import read_schema
from cosim.record.log import GrantLog, Log, MetricLog, RoundLog, SpanLog

if TYPE_CHECKING:
    import pyarrow


def tables_of(log: Log) -> "dict[str, pyarrow.Table]":
    """Return the tables of a run by their names."""
    return {
        "spans": spans_table(log.spans),
        "metrics": metrics_table(log.metrics),
        "grants": grants_table(log.grants),
        "rounds": rounds_table(log.rounds),
    }


def spans_table(spans: SpanLog) -> "pyarrow.Table":
    """Return the spans; ``flop``, ``energy_j`` and ``resent_bits`` are float64, times integer nanoseconds."""
    import pyarrow

    spans.settle()
    ends = np.frombuffer(spans.parents_end, dtype=np.int64) if len(spans) else np.empty(0, dtype=np.int64)
    offsets = pyarrow.array(np.concatenate([[0], ends]), type=pyarrow.int32())
    delivered, resent_bits = np.ones(len(spans), dtype=np.bool_), np.zeros(len(spans))
    for number, extra in spans.extras.items():
        delivered[number], resent_bits[number] = extra.delivered, extra.resent_bits
    return pyarrow.table(
        {
            "id": pyarrow.array(np.arange(len(spans))),
            "parents": pyarrow.ListArray.from_arrays(offsets, _numbers(spans.parents)),
            "kind": _words(spans.kind),
            "name": _words(spans.name),
            "actor": _words(spans.actor),
            "peer": _words(spans.peer),
            "round": _numbers(spans.round),
            "local_step": _numbers(spans.local_step),
            "asked_ns": _numbers(spans.asked_ns),
            "start_ns": _numbers(spans.start_ns),
            "end_ns": _numbers(spans.end_ns),
            "bits": _numbers(spans.bits),
            "flop": _numbers(spans.flop),
            "energy_j": _numbers(spans.energy_j),
            "node": _words(spans.node),
            "task": _words(spans.task),
            "delivered": pyarrow.array(delivered),
            "resent_bits": pyarrow.array(resent_bits),
            "participants": _lists(
                len(spans), {number: extra.participants for number, extra in spans.extras.items()}
            ),
        }
    )


def metrics_table(metrics: MetricLog) -> "pyarrow.Table":
    """Return the metrics."""
    import pyarrow

    return pyarrow.table(
        {
            "time_ns": _numbers(metrics.time_ns),
            "round": _numbers(metrics.round),
            "local_step": _numbers(metrics.local_step),
            "actor": _words(metrics.actor),
            "name": _words(metrics.name),
            "value": _numbers(metrics.value),
            "task": _words(metrics.task),
        }
    )


def grants_table(grants: GrantLog) -> "pyarrow.Table":
    """Return the grants; ``bandwidth_hz`` is null where a subchannel is as wide as its link makes it."""
    import pyarrow

    return pyarrow.table(
        {
            "time_ns": _numbers(grants.time_ns),
            "round": _numbers(grants.round),
            "link": _words(grants.link),
            "subchannel": _numbers(grants.subchannel),
            "client": _words(grants.client),
            "tx_power_w": _numbers(grants.tx_power_w),
            "gain": _numbers(grants.gain),
            "bandwidth_hz": pyarrow.array(np.array(grants.bandwidth_hz), from_pandas=True),
        }
    )


def rounds_table(rounds: RoundLog) -> "pyarrow.Table":
    """Return the rounds; ``end_ns`` is null while one goes on."""
    import pyarrow

    end_ns = np.array(rounds.end_ns, dtype=np.int64)
    return pyarrow.table(
        {
            "task": _words(rounds.task),
            "round": _numbers(rounds.round),
            "start_ns": _numbers(rounds.start_ns),
            "end_ns": pyarrow.array(end_ns, mask=end_ns < 0),
            "participants": _lists(len(rounds), dict(enumerate(rounds.participants))),
        }
    )


def refuse_other_columns(folder: Path, name: str) -> None:
    """Refuse a table of a run folder that lacks a column, or has one of another type; none at all is fine.

    Raises
    ------
    RecordError
        If it is so, or the table cannot be read.
    """
    path = folder / f"{name}.parquet"
    try:
        found = read_schema(path)
    except FileNotFoundError:
        return
    for column in _schema(name):
        kinds = [found.field(at).type for at in found.get_all_field_indices(column.name)]
        if kinds != [column.type]:
            has = f"has type {kinds[0]}" if len(kinds) == 1 else f"is there {len(kinds)} times"
            raise RecordError(
                f"{path}: column {column.name!r} {has}, not once with type {column.type}; "
                "the file is not one that cosim wrote."
            )


@cache
def _schema(name: str) -> Any:
    return tables_of(Log())[name].schema


def _numbers(column: Any) -> Any:
    import pyarrow

    kind = np.int64 if column.typecode == "q" else np.float64
    return pyarrow.array(np.array(column, dtype=kind))


def _words(column: list[str]) -> Any:
    import pyarrow

    return pyarrow.array(column, type=pyarrow.string())


def _lists(num_rows: int, lists: Mapping[int, Sequence[str]]) -> Any:
    """Return a column of lists of words; rows that are not named have empty ones."""
    import pyarrow

    offsets = np.zeros(num_rows + 1, dtype=np.int64)
    for row, words in lists.items():
        offsets[row + 1] = len(words)
    members = [word for row in sorted(lists) for word in lists[row]]
    return pyarrow.ListArray.from_arrays(
        pyarrow.array(np.cumsum(offsets), type=pyarrow.int32()), _words(members)
    )
