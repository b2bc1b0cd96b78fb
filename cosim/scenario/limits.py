"""What no scenario can say, whichever setting it is for: a TOML file or a file system could not hold it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

DEEPEST = 32
"""Tables and lists within each other."""

_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**63 - 1
_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES = 255, 4095
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{4299,}")


def unsayable(given: Any) -> Iterator[str]:
    """Return a line for each value that no TOML file can hold, with its place.

    Goes through the tree without calling itself: it must not fail of what it looks for.
    """
    open_: list[tuple[tuple[str, ...], Any]] = [((), given)]
    while open_:
        place, value = open_.pop()
        what = _unsayable(value)
        if what:
            yield f"{_spelt(place)}: {what}"
        elif isinstance(value, dict | list | tuple):
            if len(place) >= DEEPEST:
                yield f"{_spelt(place[:4])}...: is nested more than {DEEPEST} deep; no setting is."
                continue
            if isinstance(value, dict):
                for name in value:
                    if what := _unsayable(name):
                        yield f"{_spelt(place)}: the name of a setting {what}"
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            open_ += reversed([((*place, str(name)), inner) for name, inner in entries])


def too_long_number(text: str) -> str:
    """Return what to say of a TOML text that Python refuses for the length of a number in it."""
    found = _LONG_NUMBER.search(text)
    line = "" if found is None else f" in line {text.count(chr(10), 0, found.start()) + 1}"
    return f"a number{line} has more digits than any number needs; {_RANGE}"


def unusable_path(path: Path) -> str:
    """Return why no file system has such a path, or nothing."""
    for name in path.parts:
        length = len(os.fsencode(name))
        if length > _LONGEST_NAME_BYTES:
            return f"{name[:16]}... is a name of {length} bytes; a file system takes {_LONGEST_NAME_BYTES}"
    length = len(os.fsencode(path))
    if length > _LONGEST_PATH_BYTES:
        return f"is a path of {length} bytes; a file system takes {_LONGEST_PATH_BYTES}"
    return ""


def _fits_a_folder(name: str) -> str:
    length = len(name.encode("utf-8", "surrogatepass"))
    if length > _LONGEST_NAME_BYTES:
        raise ValueError(f"names a folder, so it has {_LONGEST_NAME_BYTES} bytes at most, got {length}")
    return name


FolderName = Annotated[str, Field(min_length=1, pattern=r"^[^./\\][^/\\]*$"), AfterValidator(_fits_a_folder)]
"""A name that a folder can have."""

_RANGE = "whole numbers of TOML go from -2^63 to 2^63 - 1."


def _unsayable(value: Any) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, int) and not _LEAST_INTEGER <= value <= _MOST_INTEGER:
        shown = f"{value}" if abs(value) < 10**24 else f"a number of {value.bit_length()} bits"
        return f"{shown} is beyond what a file can hold; {_RANGE}"
    if isinstance(value, str):
        if "\0" in value:
            return f"has a NUL character at place {value.index(chr(0)) + 1}; leave it out."
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            return "has bytes that are no UTF-8 text; give it as UTF-8."
    return ""


def _spelt(place: tuple[str, ...]) -> str:
    return ".".join(place) or "scenario"
