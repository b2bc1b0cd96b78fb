"""The rows of a text file, whatever its format, each with the line it starts on."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosim.errors import ScenarioError, quoted
from cosim.learning.data.names import unknown
from cosim.learning.data.tables import (
    Entry,
    file_bytes,
    lines_of_json,
    list_of_json,
    rows_of_parquet,
    rows_of_saved,
    unpacked,
)

FORMATS = (".csv", ".tsv", ".jsonl", ".txt", ".json", ".parquet")
_SLOT = re.compile(r"([^,\[\]]+)\[([^\]]*)\]")


@dataclass(frozen=True)
class Row:
    """One row: its first line in the file, counting from 1, and its values by column.

    ``not_text`` names what else it has: columns of lists or tables, which no text can be read from.
    """

    line: int
    columns: dict[str, str]
    not_text: tuple[str, ...] = ()


def format_of(path: Path) -> str:
    """Return the ending that says the format, in small letters.

    Examples
    --------
    >>> format_of(Path("texts.CSV.gz"))
    '.csv'
    """
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower()


def read_rows(
    path: Path, delimiter: str | None = None, separator: str | None = None, *, paragraphs: bool = False
) -> list[Row]:
    """Return the rows of a file, at least one.

    Parameters
    ----------
    path
        A file whose ending is one of :data:`FORMATS`, or one of these with ``.gz`` behind it, or a
        folder that ``datasets`` wrote with ``save_to_disk``.
    delimiter
        Between the columns of a ``.csv`` or ``.tsv``; comma or tab if None.
    separator
        Between the columns ``prompt`` and ``text`` of a ``.txt`` line; the
        parts are stripped of white space around them. If None the line is
        the one column ``text``.
    paragraphs
        Take what lies between blank lines of a ``.txt`` file as one text, not each line.

    Raises
    ------
    ScenarioError
        If the file is missing, empty, not UTF-8 or not what its ending says.
    """
    kind = format_of(path)
    if path.is_dir():
        rows = list(_plain_rows(path, rows_of_saved(path)))
    elif kind not in FORMATS:
        raise ScenarioError(
            f"{path}: the ending says no known format; use {', '.join(FORMATS)}, or one with .gz"
        )
    elif kind == ".parquet":
        rows = list(_plain_rows(path, rows_of_parquet(path, unpacked(path, file_bytes(path)))))
    else:
        text = text_of(path)
        if kind in (".jsonl", ".json"):
            rows = list(_plain_rows(path, (lines_of_json if kind == ".jsonl" else list_of_json)(path, text)))
        elif kind == ".txt":
            rows = list(_paragraph_rows(text) if paragraphs else _line_rows(path, text, separator))
        else:
            rows = list(_csv_rows(path, text, delimiter or ("," if kind == ".csv" else "\t")))
    if not rows:
        raise ScenarioError(f"{path}: the file holds no example; give one with at least one row")
    return rows


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the columns that occur in any row."""
    return list(dict.fromkeys(column for row in rows for column in row.columns))


def without_column(rows: Sequence[Row], column: str, delimiter: str | None = None) -> str:
    """Return what to say where no row has a column: what the file has instead, and the likely way out."""
    known, nested = columns_of(rows), sorted({name for row in rows for name in row.not_text})
    parting = _likely_delimiter(known[0]) if len(known) == 1 and delimiter is None else None
    if parting is not None:
        return (
            f"no column {quoted(column)}; the first line is one column, {known[0][:80]!r}; "
            f"if {parting!r} parts its columns, set delimiter = {parting!r}"
        )
    if not nested:
        return unknown("column", column, known)
    named = ", ".join(map(repr, nested[:5]))
    why = (
        f"column {quoted(column)} holds no text"
        if column in nested
        else f"no column {quoted(column)} with text; known: {', '.join(known) or 'none'}"
    )
    return (
        f"{why}; lists and tables, as in {named}, are not read; write each example on a line of its own, "
        'as {"prompt": "...", "text": "..."}; messages of a chat are read by kind = "chat"'
    )


def _likely_delimiter(header: str) -> str | None:
    """Return what seems to part the names of a header that was read as one column."""
    return next((one for one in (";", "\t", "|", ",") if one in header), None)


def slots(text: str) -> dict[str, str]:
    """Return the fields of a meaning representation.

    Source
    ------
    J. Novikova et al., "The E2E dataset", SIGDIAL 2017 (its notation).

    Examples
    --------
    >>> slots("name[The Vaults], eatType[pub], priceRange[more than £30]")
    {'name': 'The Vaults', 'eatType': 'pub', 'priceRange': 'more than £30'}
    """
    return {key.strip(): value for key, value in _SLOT.findall(text)}


def text_of(path: Path) -> str:
    """Return a file's text; refuse one that is empty or not UTF-8."""
    raw = unpacked(path, file_bytes(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # utf-8-sig counts from behind the byte order mark; the person looking counts from the start.
        offset = _first_bad_byte(raw)
        line = raw.count(b"\n", 0, offset) + 1
        raise ScenarioError(
            f"{path}: byte {offset} (line {line}) is not UTF-8; save the file with the encoding UTF-8"
        ) from None
    if not text.strip():
        raise ScenarioError(f"{path}: the file is empty; give one with at least one row")
    return text


def _first_bad_byte(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        return fault.start
    return len(raw)


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    # newline="" leaves line breaks inside quotes alone; strict makes an unclosed quote a fault, where
    # otherwise the rest of the file would be one value.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a value may be as long as its file
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for values in reader:
            if header is None:
                header = values
                _check_header(path, header)
            elif values:
                if len(values) != len(header):
                    likely = _likely_delimiter(header[0]) if len(header) == 1 else None
                    other = f" = {likely!r}" if likely else f" if it is not {delimiter!r}"
                    raise ScenarioError(
                        f"{path}: line {line} has {len(values)} value(s) for the {len(header)} column(s) of "
                        f"the first line; check its quotes, or set delimiter{other}"
                    )
                yield Row(line, dict(zip(header, values, strict=True)))
            line = reader.line_num + 1
    except csv.Error as fault:
        raise ScenarioError(
            f"{path}: the row from line {line} on cannot be read ({fault}); "
            "close its quotes, and write a quote inside quotes twice"
        ) from None


def _check_header(path: Path, header: list[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise ScenarioError(f"{path}: two columns are called {quoted(name)}; give each its own name")


def _plain_rows(path: Path, entries: Iterable[Entry]) -> Iterator[Row]:
    """Return objects as rows of text."""
    for line, value in entries:
        columns = {
            name: _plain(one)
            for name, one in value.items()
            if not isinstance(one, list | dict | bytes | None)
        }
        for name, word in columns.items():
            if any("\ud800" <= letter <= "\udfff" for letter in word):
                raise ScenarioError(
                    f"{path}: line {line} has half a surrogate pair in {quoted(name)}; write whole characters"
                )
        yield Row(line, columns, tuple(name for name, one in value.items() if isinstance(one, list | dict)))


def _plain(value: Any) -> str:
    """Text as it is; numbers, true and false as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _paragraph_rows(text: str) -> Iterator[Row]:
    line = 1
    for found in re.split(r"(\n[ \t\r]*\n\s*)", text):
        if found.strip():
            yield Row(line, {"text": found.strip()})
        line += found.count("\n")


def _line_rows(path: Path, text: str, separator: str | None) -> Iterator[Row]:
    for line, entry in enumerate(text.split("\n"), start=1):
        words = entry.strip()
        if not words:
            continue
        if separator is None:
            yield Row(line, {"text": words})
            continue
        prompt, found, target = entry.partition(separator)
        if not found:
            raise ScenarioError(
                f"{path}: line {line} has no {quoted(separator)}; every line needs it between prompt and text"
            )
        yield Row(line, {"prompt": prompt.strip(), "text": target.strip()})
