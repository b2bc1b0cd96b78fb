"""Tables that users give: the columns of a CSV or Parquet file, with the line of what is wrong."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosim.errors import ScenarioError
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Columns:
    """Some columns of a table.

    Attributes
    ----------
    place, file
        The setting that names the file, and the file.
    lines
        Line of each row in the file; of a Parquet file its number, from 1.
    values
        By column, as the file has them: texts of a CSV file, None where a cell is missing.
    """

    place: str
    file: Path
    lines: Sequence[int]
    values: Mapping[str, Sequence[Any]]

    def at(self, row: int) -> str:
        """Return what begins the message about a row."""
        return f"{self.place}: {self.file}, line {self.lines[row]}"

    def numbers(self, name: str, empty: float | None = None) -> Floats:
        """Return a column as finite numbers, shape (num_rows,).

        Parameters
        ----------
        empty
            What an empty cell counts as, finite or not; without it every cell needs a number.

        Raises
        ------
        ScenarioError
            With the line of the first cell that has no finite number.
        """
        cells = self.values[name]
        found = np.array([_number(cell) for cell in cells])
        for row in np.flatnonzero(~np.isfinite(found)).tolist():
            if empty is not None and cells[row] in (None, ""):
                found[row] = empty
                continue
            raise ScenarioError(
                f"{self.at(row)}: {name} is {_shown(cells[row])}, and must be a finite number; "
                "correct the cell or leave the row out."
            )
        return found

    def clients(self) -> Ints:
        """Return the column ``client`` as numbers from 0, shape (num_rows,).

        Raises
        ------
        ScenarioError
            With the line of the first cell that has none.
        """
        found = np.array([_number(value) for value in self.values["client"]])
        wrong = np.flatnonzero(~((found >= 0.0) & (found == np.floor(found)) & (found < 2.0**53)))
        if len(wrong):
            row = int(wrong[0])
            raise ScenarioError(
                f"{self.at(row)}: client is {_shown(self.values['client'][row])}, and must be a whole number "
                "from 0; correct the cell or leave the row out."
            )
        return found.astype(np.int64)


def read_columns(file: Path, place: str, needed: Sequence[str], optional: Sequence[str] = ()) -> Columns:
    """Return columns of a file: Parquet if it is named so, else CSV; others that it has are ignored.

    Raises
    ------
    ScenarioError
        If it cannot be read, lacks a column that is needed, or has no rows; ``place``, the setting
        that names it, begins the line.
    """
    try:
        names, lines, values = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        why = getattr(fault, "strerror", None) or (
            f"it is no CSV: {fault}" if isinstance(fault, csv.Error) else "it is no text in UTF-8"
        )
        raise ScenarioError(f"{place}: {file} cannot be read: {why}.") from None
    missing = [name for name in needed if name not in names]
    if missing:
        raise ScenarioError(f"{place}: {file} has no column {missing[0]!r}; it needs {', '.join(needed)}.")
    if not lines:
        raise ScenarioError(f"{place}: {file} has no rows.")
    return Columns(place, file, lines, {name: values[name] for name in (*needed, *optional) if name in names})


def stamp_of(file: Path) -> tuple[int, int]:
    """Return what changes when a file is written to; zeros where it is not there."""
    try:
        state = file.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


def column_names(file: Path) -> list[str]:
    """Return the names of all columns; empty where a file cannot be read."""
    try:
        return list((_parquet(file) if file.suffix == ".parquet" else _csv(file))[0])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _csv(file: Path) -> tuple[Sequence[str], Sequence[int], Mapping[str, Sequence[Any]]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.reader(opened)
        names = [name.strip() for name in next(reader, [])]
        lines, rows = list[int](), list[list[str]]()
        for row in reader:
            if row:
                lines.append(reader.line_num)
                rows.append(row)
    width = len(names)
    padded = [[*row, *[None] * (width - len(row))] for row in rows]
    return names, lines, {name: [row[column] for row in padded] for column, name in enumerate(names)}


def _parquet(file: Path) -> tuple[Sequence[str], Sequence[int], Mapping[str, Sequence[Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowException as fault:
        raise OSError(0, f"it is no Parquet file: {str(fault).splitlines()[0]}") from None
    return table.column_names, range(1, table.num_rows + 1), table.to_pydict()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _shown(value: Any) -> str:
    return "empty" if value is None or value == "" else repr(value)
