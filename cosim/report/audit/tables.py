"""The findings of an audit as CSV."""

import csv
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from cosim.files import write_output

MOVES = ("alternative", "n", "missing", "mean", "low", "high", "moved", "moved_low", "moved_high")
ORDER = ("seeds", "winner", "tau", "tau_low", "tau_high", "tau_of_means", "same_winner")
PAIRS = ("rival", "n", "ahead", "ahead_low", "ahead_high", "verdict", "as_published")


def write_tables(found: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write ``moves.csv``, a row per measure, turn and alternative, and ``ranking.csv``, one per rival.

    Raises
    ------
    RecordError
        If one cannot be written.
    """
    moves, ranking = folder / "moves.csv", folder / "ranking.csv"
    _write(moves, ("measure", "turn", *MOVES), _moves(found))
    _write(ranking, ("measure", "turn", "proposed", *ORDER, *PAIRS), _ranking(found))
    return moves, ranking


def _moves(found: Mapping[str, Any]) -> Iterator[list[Any]]:
    for measure in found["measures"]:
        for row in measure["rows"]:
            for move in row["moves"]:
                yield [measure["name"], row["turn"], *(move[name] for name in MOVES)]


def _ranking(found: Mapping[str, Any]) -> Iterator[list[Any]]:
    for measure in found["measures"]:
        for row in measure["rows"]:
            for pair in row["pairs"] or [dict.fromkeys(PAIRS)]:
                order, told = (row[name] for name in ORDER), (pair[name] for name in PAIRS)
                yield [measure["name"], row["turn"], measure["proposed"], *order, *told]


def _write(path: Path, header: tuple[str, ...], rows: Iterator[list[Any]]) -> None:
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_output(path, lines.getvalue().encode(), force=True)
