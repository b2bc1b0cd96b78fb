"""The tables of a run while it goes on, piece by piece: each has the rows since the last, and stays as it is.

A run that is killed shows all of its pieces; one that ends writes each table whole, and has none.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cosim.files import write_whole
from cosim.record.digests import digest_of, table_bytes
from cosim.record.log import Log
from cosim.record.tables import tables_of

_PIECE = re.compile(r"([a-z]+)\.(\d+)\.parquet")


def pieces_of(table: str, files: Iterable[str]) -> list[str]:
    """Return those of some files that are pieces of a table, in their order.

    Examples
    --------
    >>> pieces_of("spans", ["spans.10.parquet", "spans.9.parquet", "spans.parquet", "causes.1.parquet"])
    ['spans.9.parquet', 'spans.10.parquet']
    """
    found = [
        (int(match[2]), name) for name in files if (match := _PIECE.fullmatch(name)) and match[1] == table
    ]
    return [name for _, name in sorted(found)]


class Pieces:
    """Writes the pieces of one run.

    Parameters
    ----------
    folder
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._log: Log | None = None
        self._written: dict[str, int] = {}

    def write(self, log: Log, files: Mapping[str, Any]) -> dict[str, Any]:
        """Write what was recorded since the last piece; returns the files of the folder as they are to be.

        Pieces of a log before this one, as of a run that was stopped, are then no longer among them.
        """
        if log is not self._log:
            numbers = [
                int(match[2]) for one in self._folder.iterdir() if (match := _PIECE.fullmatch(one.name))
            ]
            self._log, self._written, self._number = log, {}, max(numbers, default=0)
            files = whole(files)
        self._number += 1
        found = dict(files)
        for name, table in tables_of(log, self._written).items():
            if name == "rounds":  # rows of it change: those that go on end
                continue
            self._written[name] = self._written.get(name, 0) + table.num_rows
            if table.num_rows:
                content = table_bytes(table)
                file = f"{name}.{self._number}.parquet"
                write_whole(self._folder / file, bytes(content), durable=False)
                found[file] = digest_of(content)
        return found

    def sweep(self, files: Mapping[str, Any]) -> None:
        """Remove all pieces that are not among the files of the folder."""
        for path in self._folder.iterdir():
            if _PIECE.fullmatch(path.name) and path.name not in files:
                path.unlink(missing_ok=True)


def whole(files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files that are no pieces."""
    return {name: one for name, one in files.items() if not _PIECE.fullmatch(name)}
