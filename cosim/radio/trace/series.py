"""The rows of a trace, client by client and link by link."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cosim.columns import Columns, read_columns, stamp_of
from cosim.errors import ScenarioError
from cosim.units import NS_PER_S, Floats, Ints

PLACE = "radio.trace.file"
EVERY_LINK = "all"


@dataclass(frozen=True, eq=False)
class Series:
    """One client's values on one link: when each begins, ns from 0 on, and what it is; shape (num_rows,).

    ``place`` names its first row.
    """

    time_ns: Ints
    values: Floats
    place: str


@dataclass(frozen=True, eq=False)
class TraceFile:
    """All series of a file.

    Attributes
    ----------
    series
        By client and link; ``all`` are those that have no rows of their own.
    step_ns
        The longest time of which all times are whole multiples, ns; 0 where there is no other than 0.
    """

    series: Mapping[tuple[int, str], Series]
    step_ns: int

    def of(self, client: int, link: str) -> Series | None:
        """Return a client's series on a link; None where there is none."""
        return self.series.get((client, link), self.series.get((client, EVERY_LINK)))


def read_trace(
    file: Path, column: str, bounds: tuple[float, float], max_gap_s: float | None = None
) -> TraceFile:
    """Return what a file has; it is read once as long as it is not written to.

    Parameters
    ----------
    column, bounds
        The column of the values, and their least and their most.
    max_gap_s
        Longest time between two rows of a client and link; None for any.

    Raises
    ------
    ScenarioError
        With the line of the first fault.
    """
    return _read(file, stamp_of(file), column, bounds, max_gap_s)


@lru_cache(maxsize=8)
def _read(
    file: Path, stamp: tuple[int, int], column: str, bounds: tuple[float, float], max_gap_s: float | None
) -> TraceFile:
    columns = read_columns(file, PLACE, ("time_s", "client", "link", column))
    clients, time_s, values = columns.clients(), columns.numbers("time_s"), columns.numbers(column)
    _refuse_beyond(columns, column, values, bounds)
    links = np.array([str(value).strip() for value in columns.values["link"]])
    time_ns = np.round(time_s * NS_PER_S).astype(np.int64)
    found: dict[tuple[int, str], Series] = {}
    for link in np.unique(links).tolist():
        for client in np.unique(clients[links == link]).tolist():
            rows = np.flatnonzero((clients == client) & (links == link))
            _refuse_times(columns, rows, time_ns[rows], client, link, max_gap_s)
            found[client, link] = Series(time_ns[rows], values[rows], columns.at(int(rows[0])))
    return TraceFile(found, int(np.gcd.reduce(time_ns)))


def _refuse_beyond(columns: Columns, column: str, values: Floats, bounds: tuple[float, float]) -> None:
    wrong = np.flatnonzero((values < bounds[0]) | (values > bounds[1]))
    if len(wrong):
        row = int(wrong[0])
        raise ScenarioError(
            f"{columns.at(row)}: {column} is {values[row]:g}; values go from {bounds[0]:g} to {bounds[1]:g}, "
            "so correct the cell or leave the row out."
        )


def _refuse_times(
    columns: Columns, rows: Ints, time_ns: Ints, client: int, link: str, max_gap_s: float | None
) -> None:
    """Refuse times that do not increase from 0, and gaps."""
    who = f"client {client} on {link}"
    if time_ns[0] != 0:
        raise ScenarioError(
            f"{columns.at(int(rows[0]))}: {who} begins at {time_ns[0] / NS_PER_S:g} s; give its value at 0 s."
        )
    steps = np.diff(time_ns)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        before, now = time_ns[wrong[0] : wrong[0] + 2] / NS_PER_S
        raise ScenarioError(
            f"{columns.at(int(rows[wrong[0] + 1]))}: {who} is at {now:g} s after a row at {before:g} s; sort "
            "its rows by time, each once."
        )
    wide = np.flatnonzero(steps > max_gap_s * NS_PER_S) if max_gap_s is not None else steps[:0]
    if len(wide):
        before, now = time_ns[wide[0] : wide[0] + 2] / NS_PER_S
        raise ScenarioError(
            f"{columns.at(int(rows[wide[0] + 1]))}: {who} has no row between {before:g} and {now:g} s, and "
            f"max_gap_s is {max_gap_s:g}; add rows or allow a longer gap."
        )
