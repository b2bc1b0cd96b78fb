"""The command line: a thin typer app, and how faults become an exit status and a line each."""

import os
import sys
from collections.abc import Sequence

from cosim.cli.streams import lead_nowhere, steady
from cosim.errors import CosimError

TRACEBACK = "COSIM_TRACEBACK"
"""Set to anything, an unforeseen error shows where it came from."""


def main() -> None:
    """Do what the command line says; the entry point of ``cosim``."""
    # Before numpy or torch is loaded: works and allocations are short, and threads that spin between
    # them take a busy machine many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    steady()
    sys.exit(answer(sys.argv[1:]))


def answer(arguments: Sequence[str]) -> int:
    """Do what some arguments say and return the exit status.

    0 for success, 2 for a fault in what the user gave or in what the system allows,
    1 for anything else.
    A fault is told on stderr in one line, several in one each.
    """
    from cosim.cli.app import command

    try:
        status = command()(args=list(arguments) or ["--help"], prog_name="cosim", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except CosimError as fault:
        _raise_if_asked()
        _tell(str(fault))
        return fault.exit_status
    except BrokenPipeError:
        # Whoever read stdout has seen enough; what Python still flushes at exit goes nowhere.
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
        _tell(
            f"cosim: {type(error).__name__}: {_one_line(str(error))}; this should not happen: "
            f"run again with {TRACEBACK}=1 to see where."
        )
        return 1


def _raise_if_asked() -> None:
    if os.environ.get(TRACEBACK):
        raise


def _tell(lines: str) -> None:
    print(lines, file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
