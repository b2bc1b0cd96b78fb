"""The standard streams of a command: what cannot be written to stdout is one line on stderr, and status 1."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from cosim.errors import CosimError

TRACEBACK = "COSIM_TRACEBACK"
"""Set to anything, an unforeseen error shows where it came from."""


class StreamError(CosimError):
    """What a command says cannot be written; what it did is done."""

    exit_status = 1


class _Told(io.FileIO):
    """A stream whose faults end the command in one line; what is written after that leads nowhere."""

    is_closed = False

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        if self.is_closed:
            self.is_closed = False
            raise _cannot("it is closed")
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as fault:
            lead_nowhere(self.fileno())
            raise _cannot(fault.strerror or str(fault)) from None


class _Dropped(io.FileIO):
    """A stream whose faults are nobody's: a run is not stopped because its progress cannot be shown."""

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _cannot(why: str) -> StreamError:
    return StreamError(f"stdout: cannot be written: {why}; what is in files stays.")


def steady() -> None:
    """Make the standard streams of this process safe to use, whatever it was started with."""
    closed = [number for number in (0, 1, 2) if _open_if_closed(number)]
    told = _Told(1, "w", closefd=False)
    told.is_closed = 1 in closed
    sys.stdout = _text(sys.stdout, told)
    sys.stderr = _text(sys.stderr, _Dropped(2, "w", closefd=False))


def lead_nowhere(number: int) -> None:
    """Drop what is still written to a descriptor."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    if nowhere != number:
        os.close(nowhere)


def _open_if_closed(number: int) -> bool:
    """Let a descriptor that is closed lead nowhere: the next file that is opened would take its number.

    Returns whether it was closed.
    """
    try:
        os.fstat(number)
    except OSError:
        lead_nowhere(number)
        return True
    return False


def _text(before: TextIO | None, raw: io.FileIO) -> TextIO:
    if before is not None:
        with suppress(OSError):
            before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",  # a name may hold bytes the encoding has not
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )
