"""Devices from a file: one row for each client, one column for each setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cosim.columns import Columns, column_names, read_columns, stamp_of
from cosim.distributions import LEAST, MOST
from cosim.errors import ScenarioError
from cosim.parts import LONGEST_S

_SETTINGS: Mapping[str, tuple[float, float]] = {
    "clock_hz": (LEAST, MOST),
    "flop_per_cycle": (LEAST, MOST),
    "flop_per_s": (LEAST, MOST),
    "memory_bytes": (LEAST, MOST),
    "energy_coefficient": (0.0, MOST),
    "max_tx_power_dbm": (-400.0, 400.0),
}
"""Columns of settings, with the least and the most of each."""

MEASURED = ("client_forward_backward", "client_forward", "client_backward")
"""Computations of one mini-batch whose seconds a column may give, by the name of their spans."""

_MEASURED = {f"{name}_s": name for name in MEASURED}
_LABELS = ("client", "device")


@dataclass(frozen=True)
class Row:
    """What a table says of one client.

    Attributes
    ----------
    settings
        Values by the setting of a group of clients; the group's hold where there is none.
    measured_s
        Seconds of one mini-batch, by computation.
    """

    settings: Mapping[str, float]
    measured_s: Mapping[str, float]


def read_devices(file: Path, place: str) -> Sequence[Row]:
    """Return the rows of a device table, in the order of the clients; ``place`` names its setting.

    Raises
    ------
    ScenarioError
        With the line of the first fault.
    """
    return _read(file, stamp_of(file), place)


@lru_cache(maxsize=8)
def _read(file: Path, stamp: tuple[int, int], place: str) -> Sequence[Row]:
    names = column_names(file)
    given = [name for name in names if name in _SETTINGS]
    measured = [name for name in names if name in _MEASURED]
    columns = read_columns(file, place, ("client",), (*given, *measured))
    known = f"{', '.join((*_SETTINGS, *_MEASURED))}, and 'device' for what it is called"
    for name in names:
        if name not in (*given, *measured, *_LABELS):
            raise ScenarioError(
                f"{place}: {file} has the column {name!r}, which nothing is known of; known: {known}."
            )
    if not (given or measured):
        raise ScenarioError(f"{place}: {file} has no column beside client; it needs one at least of {known}.")
    if "flop_per_s" in given and ("clock_hz" not in given or "flop_per_cycle" in given):
        raise ScenarioError(
            f"{place}: {file} has flop_per_s, which needs the column 'clock_hz' and takes the place of "
            "flop_per_cycle; give clock_hz and one of the two."
        )
    order = _order(columns)
    values = {name: _values(columns, name, order) for name in given}
    if "flop_per_s" in values:
        values["flop_per_cycle"] = values.pop("flop_per_s") / values["clock_hz"]
    seconds = {_MEASURED[name]: _seconds(columns, name, order) for name in measured}
    return tuple(
        Row(
            MappingProxyType({name: float(column[row]) for name, column in values.items()}),
            MappingProxyType({name: each[row] for name, each in seconds.items() if each[row] > 0.0}),
        )
        for row in range(len(order))
    )


def _order(columns: Columns) -> Sequence[int]:
    """Return the rows in the order of their clients, which must be all from 0 on, each once."""
    clients = columns.clients()
    order = np.argsort(clients, kind="stable")
    for number, row in enumerate(order.tolist()):
        if clients[row] < number:
            raise ScenarioError(f"{columns.at(row)}: client {clients[row]} has a row already; keep one.")
        if clients[row] > number:
            raise ScenarioError(
                f"{columns.place}: {columns.file} has no row of client {number}; count from 0 without gaps."
            )
    return [int(row) for row in order]


def _values(columns: Columns, name: str, order: Sequence[int]) -> np.ndarray:
    found, (least, most) = columns.numbers(name), _SETTINGS[name]
    _refuse_beyond(columns, name, found, least, most)
    return found[list(order)]


def _seconds(columns: Columns, name: str, order: Sequence[int]) -> list[float]:
    """Return seconds of each client, 0 where a cell is empty: not measured."""
    seconds = columns.numbers(name, empty=np.nan)
    _refuse_beyond(columns, name, seconds, 1e-9, LONGEST_S)
    return [float(one) for one in np.nan_to_num(seconds)[list(order)]]


def _refuse_beyond(columns: Columns, name: str, found: np.ndarray, least: float, most: float) -> None:
    wrong = np.flatnonzero((found < least) | (found > most))
    if len(wrong):
        row = int(wrong[0])
        raise ScenarioError(
            f"{columns.at(row)}: {name} is {found[row]:g}; a device has {least:g} to {most:g}."
        )
