"""A run while it goes: a live bar on a terminal, plain lines elsewhere, and Ctrl-C that keeps the record."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cosim.cli.overview import warnings
from cosim.errors import CosimError
from cosim.report.quantities import count, duration
from cosim.scenario.settings import Scenario
from cosim.visible import show_line as print  # names may come from anybody
from cosim.world import Progress

Watch = Callable[[Progress], None]


class InterruptedRunError(CosimError):
    """The user stopped a run."""

    exit_status = 1


@contextmanager
def interruptible(folder: Path) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop a run once; its record is then written in peace.

    Raises
    ------
    InterruptedRunError
        Saying where what was recorded is.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        for one in caught:
            signal.signal(one, signal.SIG_IGN)  # a second one would tear the record
        raise KeyboardInterrupt(signal.Signals(number).name)

    caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = [(one, signal.signal(one, stop)) for one in caught]
    manifest_before = _manifest(folder)
    try:
        yield
    except KeyboardInterrupt:
        kept = _manifest(folder) != manifest_before
        where = f"what was recorded is in {folder}" if kept else "nothing was recorded yet"
        raise InterruptedRunError(f"cosim: interrupted; {where}.") from None
    finally:
        for one, handler in before:
            signal.signal(one, handler)


def _manifest(folder: Path) -> bytes | None:
    try:
        return (folder / "manifest.json").read_bytes()
    except OSError:
        return None


@contextmanager
def watching(scenario: Scenario) -> Iterator[Watch]:
    """Show how far a run is on stderr, after its warnings."""
    for line in warnings(scenario):
        print(f"warning: {line}", file=sys.stderr)
    tasks = {name: one.scheme.num_rounds for name, one in scenario.by_task.items()}
    num_rounds = sum(tasks.values())
    if not sys.stderr.isatty():
        yield lambda progress: print(f"{_words(progress, tasks[progress.task])}", file=sys.stderr, flush=True)
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from cosim.report.terminal import PlainConsole

    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=10),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=PlainConsole(stderr=True)) as bar:
        task = bar.add_task(f"round 0/{num_rounds}: loading the model", total=num_rounds)
        yield lambda progress: bar.update(
            task, completed=progress.num_ended, description=_few_words(progress, tasks[progress.task])
        )


def _few_words(progress: Progress, num_rounds: int) -> str:
    """Tell what fits beside a bar on a narrow terminal."""
    losses = [
        f"{progress.measured[name]:.3f}" for name in ("train_loss", "eval_loss") if name in progress.measured
    ]
    loss = f", loss {' / '.join(losses)}" if losses else ""
    spans = f"{count(progress.num_spans)} spans"
    return f"{_which(progress, num_rounds)}: {duration(progress.simulated_ns)}, {spans}{loss}"


def _which(progress: Progress, num_rounds: int) -> str:
    """Return which round has ended, and how many have where they do not end in their order."""
    if progress.task:
        return f"{progress.round}/{num_rounds} of {progress.task}"
    if progress.num_ended in (0, progress.round):
        return f"{progress.round}/{num_rounds}"
    return f"{progress.round}, {progress.num_ended}/{num_rounds} over"


def _words(progress: Progress, num_rounds: int) -> str:
    losses = "".join(
        f", {what} {progress.measured[name]:.4g}"
        for what, name in (("training loss", "train_loss"), ("held-out loss", "eval_loss"))
        if name in progress.measured
    )
    return (
        f"round {_which(progress, num_rounds)}: {duration(progress.simulated_ns)} simulated, "
        f"{count(progress.num_spans)} spans{losses}"
    )
