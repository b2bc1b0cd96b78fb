"""Runs in processes of their own that are killed at a write, or keep what is on disk before each."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from cosim.graph.store import Store
from cosim.runs import resume, run
from cosim.scenario.load import load


def play(
    file: Path,
    place: Path,
    started: Event,
    dies_at: int | None = None,
    is_resume: bool = False,
    snapshots: Path | None = None,
) -> None:
    """Run, or resume, with a store.

    Parameters
    ----------
    dies_at
        The number of the write, counted from 1, before which the process kills itself.
    snapshots
        Where to copy ``place`` before every write, to a folder called by its number. A process
        killed there would leave the same: what it has not written goes with it.
    """

    def before_a_write(number: int) -> None:
        if number == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if snapshots is not None:
            shutil.copytree(place, snapshots / str(number))

    _watch_writes(place, before_a_write)
    started.set()
    store = Store(place / "store")
    if is_resume:
        resume(place / "run", store=store)
    else:
        run(load(file), place / "run", store=store)


def _watch_writes(place: Path, before: Callable[[int], None]) -> None:
    written = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal written
        if _is_write(event, arguments, place):
            written += 1
            before(written)

    sys.addaudithook(watch)


def _is_write(event: str, arguments: tuple[object, ...], place: Path) -> bool:
    """Return whether an event, which Python raises before it happens, changes a file below ``place``."""
    if event == "open":
        path, _, flags = arguments
        is_write = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    else:
        path, is_write = arguments[0] if arguments else None, event in ("os.rename", "os.mkdir", "os.remove")
    return is_write and isinstance(path, str | Path) and Path(path).is_relative_to(place)
