"""A table of a run: read from its record or from a file, written, and compared."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosim.record.folder import Record

Row = tuple[Any, ...]
Close = Callable[[float, float], bool]


@dataclass(frozen=True)
class Layout:
    """What a table has and how it is compared.

    Attributes
    ----------
    key
        Columns that say which row it is, compared exactly: they sort the rows.
    times, amounts, values
        Columns of times in ns, of whole amounts, and of floats.
    """

    name: str
    key: tuple[str, ...]
    times: tuple[str, ...]
    amounts: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order of the file."""
        return self.key + self.times + self.amounts + self.values


SPANS = Layout(
    "spans",
    key=("round", "local_step", "actor", "peer", "name"),
    times=("asked_ns", "start_ns", "end_ns"),
    amounts=("bits", "flop"),
    values=("energy_j",),
)
METRICS = Layout(
    "metrics",
    key=("round", "local_step", "actor", "name"),
    times=("time_ns",),
    amounts=(),
    values=("value",),
)
LAYOUTS = (SPANS, METRICS)
_WORDS = ("actor", "peer", "name")


@dataclass(frozen=True)
class Tolerance:
    """How far a run on another processor may be from its tables.

    Bits, FLOP, names and rounds are exact. Rates go through logarithms, and those of two processors may
    differ in the last bit: that can move the end of a transfer, a whole number of ns, by one, and all that
    follows.
    Weights of a random base are drawn in float32, and two processors draw them some 1e-7 of their size apart.
    With such weights, and with logarithms off by a last bit, no time and no bit moved in any of these runs.
    Measured values moved by less than 1e-5 of their size, except where numbers are rounded to few bits.

    Attributes
    ----------
    time_ns
        Largest difference of a time, ns.
    energy_share
        Largest difference of an energy, as a share: that of ``time_ns`` in a short transfer.
    value_share
        Largest difference of a measured value, as a share.
    value_floor
        Largest difference of a measured value that is zero or nearly zero.
    """

    time_ns: int = 2
    energy_share: float = 1e-5
    value_share: float = 1e-4
    value_floor: float = 1e-9

    def close(self, layout: Layout, column: str) -> Close:
        """Return what tells whether two values of a column are the same."""
        if column in layout.times:
            return lambda one, other: abs(one - other) <= self.time_ns
        if column in layout.amounts:
            return lambda one, other: one == other
        if layout is SPANS:
            return lambda one, other: abs(one - other) <= self.energy_share * abs(one)
        return lambda one, other: abs(one - other) <= self.value_floor + self.value_share * abs(one)


def of_record(record: Record, layout: Layout) -> list[Row]:
    """Return a table of a run, sorted."""
    table = getattr(record, layout.name)
    columns = [table[column].to_pylist() for column in layout.columns]
    whole = len(layout.columns) - len(layout.values)
    return sorted(
        tuple(one if isinstance(one, str) else int(one) for one in row[:whole]) + row[whole:]
        for row in zip(*columns, strict=True)
    )


def write(path: Path, layout: Layout, rows: Sequence[Row]) -> None:
    """Write a table; floats have ten digits, far more than any tolerance asks for."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(layout.columns)
        lines.writerows([f"{one:.10g}" if isinstance(one, float) else one for one in row] for row in rows)


def read(path: Path, layout: Layout, names: Mapping[str, str | None]) -> list[Row]:
    """Return a table from its file under today's names, sorted; rows without a name today are left out."""
    at = layout.columns.index("name")
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    if tuple(header) != layout.columns:
        raise ValueError(f"{path}: has the columns {header}, not {list(layout.columns)}")
    rows = (tuple(map(_value_of(layout), layout.columns, line)) for line in lines)
    renamed = ((row, names.get(row[at], row[at])) for row in rows)
    return sorted((*row[:at], name, *row[at + 1 :]) for row, name in renamed if name is not None)


def _value_of(layout: Layout) -> Callable[[str, str], Any]:
    def value(column: str, text: str) -> Any:
        if column in _WORDS:
            return text
        return float(text) if column in layout.values else int(text)

    return value


def differences(
    layout: Layout, golden: Sequence[Row], today: Sequence[Row], tolerance: Tolerance
) -> Iterator[str]:
    """Yield one line per difference, none where the tables agree.

    A metric under a name that the golden table has nowhere is no difference: a run may learn to measure more.
    """
    key = len(layout.key)
    if layout is METRICS:
        at = layout.key.index("name")
        known = {row[at] for row in golden}
        today = [row for row in today if row[at] in known]
    before, after = (Counter(row[:key] for row in rows) for rows in (golden, today))
    for missing in sorted((before - after).elements()):
        yield f"{layout.name}: missing: {_say(layout, missing)}"
    for added in sorted((after - before).elements()):
        yield f"{layout.name}: new: {_say(layout, added)}"
    if before != after:
        return
    close = [tolerance.close(layout, column) for column in layout.columns[key:]]
    for was, is_ in zip(golden, today, strict=True):
        for column, agree, one, other in zip(layout.columns[key:], close, was[key:], is_[key:], strict=True):
            if not agree(one, other):
                yield f"{layout.name}: {_say(layout, was[:key])}: {column} was {one}, is {other}"


def _say(layout: Layout, key: Row) -> str:
    return ", ".join(f"{column} {one}" for column, one in zip(layout.key, key, strict=True) if one != "")
