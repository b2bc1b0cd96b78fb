"""The rows of a text file, whatever its format, each with the line it starts on."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosim.errors import ScenarioError, quoted
from cosim.learning.data.names import unknown

FORMATS = (".csv", ".tsv", ".jsonl", ".txt")
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


def file_bytes(path: Path) -> bytes:
    """Return a file as it lies on the disk; raise ScenarioError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ScenarioError(
            f"{path}: no such file; a relative path starts at the scenario's folder"
        ) from None
    except OSError as fault:
        raise ScenarioError(f"{path}: cannot be read ({fault.strerror}); give a readable file") from None


def read_rows(path: Path, delimiter: str | None = None, separator: str | None = None) -> list[Row]:
    """Return the rows of a file, at least one.

    Parameters
    ----------
    path
        A file ending in ``.csv``, ``.tsv``, ``.jsonl`` or ``.txt``, or one
        of these with ``.gz`` behind it.
    delimiter
        Between the columns of a ``.csv`` or ``.tsv``; comma or tab if None.
    separator
        Between the columns ``prompt`` and ``text`` of a ``.txt`` line; the
        parts are stripped of white space around them. If None the line is
        the one column ``text``.

    Raises
    ------
    ScenarioError
        If the file is missing, empty, not UTF-8 or not what its ending says.
    """
    kind = format_of(path)
    if kind not in FORMATS:
        raise ScenarioError(
            f"{path}: the ending says no known format; use {', '.join(FORMATS)}, or one with .gz"
        )
    text = _text(path)
    if kind == ".jsonl":
        rows = list(_json_rows(path, text))
    elif kind == ".txt":
        rows = list(_line_rows(path, text, separator))
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
        'as {"prompt": "...", "text": "..."}'
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


def _text(path: Path) -> str:
    raw = file_bytes(path)
    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error):
            raise ScenarioError(f"{path}: ends in .gz but is no whole gzip file; pack it again") from None
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


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    # Not splitlines(): a JSON text may hold U+2028 and its like, which do not end a line of the file.
    for line, entry in enumerate(text.split("\n"), start=1):
        if not entry.strip():
            continue
        try:
            value = json.loads(entry)
        except ValueError as fault:
            why = getattr(fault, "msg", str(fault))
            raise ScenarioError(
                f"{path}: line {line} is no JSON ({why}); each line is one JSON object"
            ) from None
        except RecursionError:
            raise ScenarioError(
                f"{path}: line {line} is nested too deeply; each line is one flat object"
            ) from None
        if not isinstance(value, dict):
            raise ScenarioError(
                f'{path}: line {line} is no JSON object; write {{"text": "..."}} and the like'
            )
        columns = {
            name: _plain(one) for name, one in value.items() if not isinstance(one, list | dict | None)
        }
        for name, word in columns.items():
            if any("\ud800" <= letter <= "\udfff" for letter in word):
                raise ScenarioError(
                    f"{path}: line {line} has half a surrogate pair in {quoted(name)}; write whole characters"
                )
        yield Row(line, columns, tuple(name for name, one in value.items() if isinstance(one, list | dict)))


def _plain(value: Any) -> str:
    """Text as it is; numbers, true and false as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value)


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
