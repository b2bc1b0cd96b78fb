"""The command line: a thin typer app, and how faults become an exit status and a line each."""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cosim.cli.streams import TRACEBACK as TRACEBACK
from cosim.cli.streams import lead_nowhere, steady
from cosim.cores import wait_briefly
from cosim.errors import CosimError
from cosim.visible import show_line, visible
from cosim.words import clipped

_LONGEST_LINE = 2000


def main() -> None:
    """Do what the command line says; the entry point of ``cosim``."""
    # Before numpy or torch is loaded: works and allocations are short, and threads that spin between
    # them take a busy machine many times as long.
    wait_briefly()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Looking for pydantic's plugins reads what every installed package says of itself.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
    # Nearly all that is loaded stays: looking for garbage in it takes a tenth of a check.
    gc.set_threshold(50_000)
    steady()
    status = answer(sys.argv[1:])
    if status == 0 and not gc.isenabled():
        os._exit(status)  # a quick command: all is said, and nothing that it made is taken apart
    sys.exit(status)


def answer(arguments: Sequence[str]) -> int:
    """Do what some arguments say and return the exit status.

    0 for success, 2 for a fault in what the user gave or in what the system allows,
    1 for anything else.
    A fault is reported on stderr in one line, several in one each.
    """
    from cosim.cli.app import command

    try:
        _refuse_nul(arguments)
        with _warnings_shown():
            status = command(*arguments[:1])(
                args=list(arguments) or ["--help"], prog_name="cosim", standalone_mode=False
            )
        sys.stdout.flush()
        return int(status or 0)
    except CosimError as fault:
        _raise_if_asked()
        _tell(str(fault))
        return fault.exit_status
    except BrokenPipeError:
        # The reader of stdout has seen enough; what Python still flushes at exit goes nowhere.
        lead_nowhere(sys.stdout.fileno())
        return 1
    except OSError as fault:
        _raise_if_asked()
        place = f"{fault.filename}: " if fault.filename is not None else ""
        _tell(f"cosim: {place}{_one_line(fault.strerror or str(fault))}; what was written before stays.")
        return 2
    except KeyboardInterrupt:
        _tell("cosim: interrupted.")
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, whichever click it brings along
            _tell(f"cosim: {_one_line(error.format_message()).rstrip('?')}; see `cosim --help`.")
            return 2
        _raise_if_asked()
        package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if package not in ("", "cosim"):
            _tell(f"cosim: this needs {package}, which is not installed; pip install {package}.")
            return 2
        blamed = _of_a_part(error)
        if blamed is not None:
            _tell(f"cosim: {_one_line(blamed)}; {TRACEBACK}=1 shows where.")
            return 2
        _tell(
            f"cosim: {type(error).__name__}: {_one_line(str(error))}; this should not happen: "
            f"run again with {TRACEBACK}=1 to see where."
        )
        return 1


def _raise_if_asked() -> None:
    if os.environ.get(TRACEBACK):
        raise


def _refuse_nul(arguments: Sequence[str]) -> None:
    for one in arguments:
        if "\0" in one:
            raise CosimError(f"cosim: {one!r} has a NUL character, which no name can have; leave it out.")


def _of_a_part(error: Exception) -> str | None:
    """Return what to say where the part of another package raised an error."""
    from cosim.plugins import culprit

    return culprit(error)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Show warnings of cosim's log as lines on stderr."""
    handler = _Lines(logging.WARNING)
    log = logging.getLogger("cosim")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Lines(logging.Handler):
    """Shows each entry of a log as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        show_line(f"warning: {record.getMessage()}", file=sys.stderr)


def _tell(lines: str) -> None:
    told = "\n".join(clipped(line, _LONGEST_LINE) for line in lines.splitlines())
    print(visible(told, keep="\n"), file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
