"""Clients that move as a file says."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.columns import read_columns, stamp_of
from cosim.errors import ScenarioError
from cosim.parts import LONGEST_S
from cosim.radio.mobility import Mobility
from cosim.radio.mobility.polyline import Polyline
from cosim.rng import Stream
from cosim.units import NS_PER_S, Floats, Ints, seconds_to_ns

_COLUMNS = ("client", "time_s", "x_m", "y_m")


class GivenPath(Mobility):
    """Clients on the paths of a CSV or Parquet file, straight from one row to the next.

    The file has the columns ``client`` (from 0), ``time_s``, ``x_m`` and ``y_m``. The rows of a client
    have increasing times, from 0 on; two may not be further apart than ``max_gap_s``. After its
    last row a client stays. A client without rows stays where the placement puts it; one that
    has some begins at its first row, wherever that is.
    """

    kind: Literal["path"] = "path"
    file: Path
    max_gap_s: float | None = Field(default=None, gt=0.0, le=LONGEST_S)
    update_s: float = Field(default=0.1, ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "path.csv"},)

    @property
    def block_ns(self) -> int:
        return seconds_to_ns(self.update_s)

    def begin_m(self, placed_m: Floats) -> Floats:
        """Return the first row of each client that has one.

        Raises
        ------
        ScenarioError
            If the file cannot be read, lacks a column, has rows of clients that are not there, or
            times that do not increase from 0 or leave a gap.
        """
        begin_m = np.array(placed_m)
        for client, way in self._ways(len(placed_m)).items():
            begin_m[client] = way.corners_m[0]
        return begin_m

    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        positions_m = np.array(np.broadcast_to(begin_m, (len(time_ns), *begin_m.shape)))
        for client, way in self._ways(None).items():
            if client < len(begin_m):
                positions_m[:, client] = way.at(time_ns / NS_PER_S)
        return positions_m

    def travelled_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        gone_m = np.zeros((len(time_ns), len(begin_m)))
        for client, way in self._ways(None).items():
            if client < len(begin_m):
                gone_m[:, client] = way.travelled_m(time_ns / NS_PER_S)
        return gone_m

    def _ways(self, num_clients: int | None) -> dict[int, Polyline]:
        ways = _read(self.file, stamp_of(self.file), self.max_gap_s)
        unknown = sorted(client for client in ways if num_clients is not None and client >= num_clients)
        if unknown:
            raise ScenarioError(
                f"radio.mobility.file: {self.file} has a path of client {unknown[0]}; there are clients "
                f"0 to {(num_clients or 1) - 1}."
            )
        return ways


@lru_cache(maxsize=8)
def _read(file: Path, stamp: tuple[int, int], max_gap_s: float | None) -> dict[int, Polyline]:
    """Return the way of each client in a file; the stamp makes a changed file another one."""
    columns = read_columns(file, "radio.mobility.file", _COLUMNS)
    rows: dict[int, list[tuple[float, float, float]]] = {}
    for line, *cells in zip(columns.lines, *(columns.values[name] for name in _COLUMNS), strict=True):
        client, place = _numbers(file, line, cells)
        _check(file, line, client, rows.get(client, []), place[0], max_gap_s)
        rows.setdefault(client, []).append(place)
    tables = {client: np.array(found) for client, found in rows.items()}
    return {client: Polyline(table[:, 0], table[:, 1:]) for client, table in tables.items()}


def _numbers(file: Path, line: int, cells: Sequence[Any]) -> tuple[int, tuple[float, float, float]]:
    """Return the client of a row, and time and place."""
    try:
        client, place = int(cells[0]), (float(cells[1]), float(cells[2]), float(cells[3]))
    except (TypeError, ValueError):
        client, place = -1, (0.0, 0.0, 0.0)
    if client < 0 or not np.isfinite(place).all():
        given = ", ".join(map(str, cells))
        raise ScenarioError(
            f"radio.mobility.file: {file}, line {line}: {given} is not a client from 0 and three numbers."
        )
    return client, place


def _check(
    file: Path,
    line: int,
    client: int,
    before: list[tuple[float, float, float]],
    time_s: float,
    max_gap_s: float | None,
) -> None:
    """Refuse times that do not increase from 0, and gaps."""
    place = f"radio.mobility.file: {file}, line {line}: client {client}"
    if not before:
        if time_s != 0.0:
            raise ScenarioError(f"{place} begins at {time_s:g} s; give its place at 0 s.")
        return
    if time_s <= before[-1][0]:
        raise ScenarioError(
            f"{place} is at {time_s:g} s after a row at {before[-1][0]:g} s; sort its rows by time."
        )
    if max_gap_s is not None and time_s - before[-1][0] > max_gap_s:
        raise ScenarioError(
            f"{place} has no row between {before[-1][0]:g} and {time_s:g} s, and max_gap_s is {max_gap_s:g}; "
            "add rows or allow a longer gap."
        )
