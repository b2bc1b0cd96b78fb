"""Tables for a paper: LaTeX with the rules of ``booktabs``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from pathlib import Path

from cosim.files import write_output

_SPECIAL = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "µ": r"\textmu{}",
}


@dataclass(frozen=True)
class Table:
    """A table: its heads, its rows, and what it shows; cells of numbers are LaTeX, all else is text.

    The first column is text, the others are as :func:`measured` and :func:`plain` give them.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    told: str


def measured(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return a number with its interval, as many digits as the interval bears.

    Examples
    --------
    >>> measured(5.7341, 4.7049, 6.7633), measured(-0.01234, -0.0145, -0.0101)
    ('$5.7$ $[4.7, 6.8]$', '$-0.0123$ $[-0.0145, -0.0101]$')
    >>> measured(1234.5), measured(None)
    ('$1234$', '--')
    """
    if value is None or not isfinite(value):
        return "--"
    if low is None or high is None or not isfinite(high - low) or high - low <= 1e-9 * abs(value):
        return f"${plain(value)}$"
    places = max(1 - floor(log10((high - low) / 2.0)), 0)  # two digits of the half-width
    return f"${value:.{places}f}$ $[{low:.{places}f}, {high:.{places}f}]$"


def plain(value: float, digits: int = 4) -> str:
    """Return a number in so many significant digits, without an exponent.

    Examples
    --------
    >>> plain(1234.56), plain(0.0123456), plain(0.0), plain(-30.7)
    ('1235', '0.01235', '0', '-30.70')
    """
    if value == 0.0:
        return "0"
    return f"{value:.{max(digits - 1 - floor(log10(abs(value))), 0)}f}"


def escaped(text: str) -> str:
    r"""Return text as LaTeX shows it as it is.

    Examples
    --------
    >>> print(escaped("50 % of a_b & c"))
    50 \% of a\_b \& c
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def latex(table: Table) -> str:
    r"""Return a table as a ``tabular`` environment, to be put into a ``table`` with ``\input``."""
    columns = "l" + "r" * (len(table.heads) - 1)
    lines = [
        f"% {table.told} Needs \\usepackage{{booktabs}}.",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(escaped, table.heads)) + r" \\",
        r"\midrule",
        *(" & ".join([escaped(row[0]), *row[1:]]) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def write_tables(tables: Mapping[str, Table], folder: Path, *, force: bool = False) -> list[Path]:
    """Write tables as ``NAME.tex``, and return the files.

    Raises
    ------
    RecordError
        If one of them is there and ``force`` is not set, or cannot be written.
    """
    written = []
    for name, table in tables.items():
        written.append(folder / f"{name}.tex")
        write_output(written[-1], latex(table).encode(), force=force)
    return written
