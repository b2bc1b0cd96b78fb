"""The tables of a run folder: their columns, types and units."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.errors import RecordError
from cosim.record.digests import read_schema
from cosim.record.grants import GrantLog
from cosim.record.log import Log, MetricLog, RoundLog, SpanLog
from cosim.record.summaries import Summaries, works_of

if TYPE_CHECKING:
    import pyarrow

_GRANT_COLUMNS = ("time_ns", "round", "link", "subchannel", "client", "tx_power_w", "gain", "bandwidth_hz")


def tables_of(log: Log, first: Mapping[str, int] | None = None) -> "dict[str, pyarrow.Table]":
    """Return the tables of a run by their names, as they are stored; of some from a row on."""
    first = first or {}
    return {
        "spans": spans_table(log.spans, first.get("spans", 0)),
        "causes": causes_table(log.spans, first.get("causes", 0)),
        "metrics": metrics_table(log.metrics, first.get("metrics", 0)),
        "grants": grant_rows_table(log.grants, first.get("grants", 0)),
        "rounds": rounds_table(log.rounds),
    }


def summaries_of(log: Log) -> "dict[str, pyarrow.Table]":
    """Return the tables of a run that keeps summaries in place of spans, as they are stored."""
    found = log.summaries
    if found is None:
        found = Summaries(log.clients)
        for work in works_of(spans_table(log.spans), log.clients):
            found.add(work)
    return {
        **found.tables(),
        "metrics": metrics_table(log.metrics),
        "rounds": rounds_table(log.rounds),
    }


def spans_table(spans: SpanLog, first: int = 0) -> "pyarrow.Table":
    """Return the spans from one on as they are stored, what each waits for by the number of a set, ``cause``.

    ``flop``, ``energy_j`` and ``resent_bits`` are float64, times integer nanoseconds.
    """
    import pyarrow

    spans.settle()
    count = len(spans) - first
    extras = {number - first: extra for number, extra in spans.extras.items() if number >= first}
    delivered, resent_bits = np.ones(count, dtype=np.bool_), np.zeros(count)
    for number, extra in extras.items():
        delivered[number], resent_bits[number] = extra.delivered, extra.resent_bits
    return pyarrow.table(
        {
            "id": pyarrow.array(np.arange(first, len(spans))),
            "cause": _numbers(spans.cause[first:]),
            "kind": _words(spans.kind[first:]),
            "name": _words(spans.name[first:]),
            "actor": _words(spans.actor[first:]),
            "peer": _words(spans.peer[first:]),
            "round": _numbers(spans.round[first:]),
            "local_step": _numbers(spans.local_step[first:]),
            "asked_ns": _numbers(spans.asked_ns[first:]),
            "start_ns": _numbers(spans.start_ns[first:]),
            "end_ns": _numbers(spans.end_ns[first:]),
            "bits": _numbers(spans.bits[first:]),
            "flop": _numbers(spans.flop[first:]),
            "energy_j": _numbers(spans.energy_j[first:]),
            "node": _words(spans.node[first:]),
            "task": _words(spans.task[first:]),
            "delivered": pyarrow.array(delivered),
            "resent_bits": pyarrow.array(resent_bits),
            "participants": _lists(count, {number: extra.participants for number, extra in extras.items()}),
        }
    )


def metrics_table(metrics: MetricLog, first: int = 0) -> "pyarrow.Table":
    """Return the metrics from one on."""
    import pyarrow

    return pyarrow.table(
        {
            "time_ns": _numbers(metrics.time_ns[first:]),
            "round": _numbers(metrics.round[first:]),
            "local_step": _numbers(metrics.local_step[first:]),
            "actor": _words(metrics.actor[first:]),
            "name": _words(metrics.name[first:]),
            "value": _numbers(metrics.value[first:]),
            "task": _words(metrics.task[first:]),
        }
    )


def grant_rows_table(grants: GrantLog, first: int = 0) -> "pyarrow.Table":
    """Return the grants from a row on as they are stored: one a client and change, lists over subchannels."""
    import pyarrow

    whole, grants = grants, GrantLog()
    grants.rows = whole.rows[first:]
    offsets = pyarrow.array(np.concatenate([[0], np.cumsum(grants.sizes)]), type=pyarrow.int32())
    widths = pyarrow.array(grants.bandwidth_hz, from_pandas=True)
    lists = {"subchannel": grants.subchannel, "tx_power_w": grants.tx_power_w, "gain": grants.gain}
    columns = {
        "time_ns": pyarrow.array([one.time_ns for one in grants.rows], type=pyarrow.int64()),
        "round": pyarrow.array([one.round for one in grants.rows], type=pyarrow.int64()),
        "link": _words([one.link for one in grants.rows]),
        "client": _words([one.client for one in grants.rows]),
        **{
            name: pyarrow.ListArray.from_arrays(offsets, pyarrow.array(values))
            for name, values in lists.items()
        },
        "bandwidth_hz": pyarrow.ListArray.from_arrays(offsets, widths),
    }
    return pyarrow.table({name: columns[name] for name in _GRANT_COLUMNS})


def grants_table(grants: GrantLog) -> "pyarrow.Table":
    """Return the grants; ``bandwidth_hz`` is null where a subchannel is as wide as its link makes it."""
    return with_subchannels(grant_rows_table(grants))


def with_subchannels(rows: "pyarrow.Table") -> "pyarrow.Table":
    """Return grants with a row a subchannel, from what is stored; of some of the columns, too."""
    import pyarrow

    lists = [name for name in rows.column_names if pyarrow.types.is_list(rows.schema.field(name).type)]
    if not lists:
        return rows
    row = rows[lists[0]].combine_chunks().value_parent_indices()
    flat = {
        name: rows[name].combine_chunks().flatten() if name in lists else rows[name].take(row)
        for name in rows.column_names
    }
    return pyarrow.table(flat)


def causes_table(spans: SpanLog, first: int = 0) -> "pyarrow.Table":
    """Return the sets of spans that spans wait for, from one on, by their numbers."""
    import pyarrow

    spans.settle()
    begin = spans.causes_end[first - 1] if first else 0
    offsets = pyarrow.array(np.array([begin, *spans.causes_end[first:]]) - begin, type=pyarrow.int32())
    return pyarrow.table({"parents": pyarrow.ListArray.from_arrays(offsets, _numbers(spans.causes[begin:]))})


def with_parents(spans: "pyarrow.Table", causes: "pyarrow.Table") -> "pyarrow.Table":
    """Return spans with the spans that each waits for, from the number of their set."""
    parents = causes["parents"].combine_chunks().take(spans["cause"].combine_chunks())
    return spans.set_column(spans.column_names.index("cause"), "parents", parents)


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
    return {**summaries_of(Log()), **tables_of(Log())}[name].schema


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
