"""A run while it goes: a live bar on a terminal, plain lines elsewhere, and Ctrl-C that keeps the record."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType

from cosim.cli.overview import warnings, workers
from cosim.errors import CosimError
from cosim.report.quantities import count, duration
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S
from cosim.visible import show_line as print  # names may come from anybody
from cosim.world import Progress


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


_SAY_EVERY_S = 10.0


class Watching:
    """Shows on stderr how far a run is: at the end of each round, and within one as its values are computed.

    The time left is estimated from the pace so far, from the end of the first evaluation on, as a model is
    loaded before.
    """

    def __init__(
        self,
        tasks: dict[str, int],
        say: Callable[[str, float], None],
        every_s: float,
        words: Callable[[Progress, int], str],
    ) -> None:
        self._tasks, self._say, self._every_s, self._words = tasks, say, every_s, words
        self._latest: Progress | None = None
        self._began_s: float | None = None
        self._said_s = monotonic()

    def round_over(self, progress: Progress) -> None:
        """Take in that a round has ended."""
        self._latest, self._said_s = progress, monotonic()
        self._began_s = self._began_s or monotonic()
        words = self._words(progress, self._tasks[progress.task])
        self._say(f"{words}{self._left(progress.num_ended)}", progress.num_ended)

    def within(self, num_done: int, total: int) -> None:
        """Take in how many values of a round are computed."""
        if num_done == total or monotonic() - self._said_s < self._every_s:
            return
        self._said_s = monotonic()
        num_ended = self._latest.num_ended if self._latest is not None else 0
        done = num_ended + num_done / total
        over = f"{count(num_ended)}/{count(sum(self._tasks.values()))} rounds over"
        words = f"{over}, {count(num_done)} of {count(total)} values of the next{self._left(done)}"
        self._say(words, done)

    def _left(self, done: float) -> str:
        num_rounds = sum(self._tasks.values())
        if self._began_s is None or not 0.0 < done < num_rounds:
            return ""
        left_s = (monotonic() - self._began_s) / done * (num_rounds - done)
        return f", about {duration(left_s * NS_PER_S)} left" if left_s >= 1.0 else ""


@contextmanager
def watching(scenario: Scenario, *, is_quiet: bool = False) -> Iterator[Watching]:
    """Show how far a run is on stderr, after its warnings; nothing but those where it is to be quiet."""
    for line in warnings(scenario):
        print(f"warning: {line}", file=sys.stderr)
    for told in dict.fromkeys(map(workers, scenario.by_task.values())):
        if told and not is_quiet:
            print(told, file=sys.stderr)
    tasks = {name: one.scheme.num_rounds for name, one in scenario.by_task.items()}
    if is_quiet or not sys.stderr.isatty():

        def say(words: str, done: float) -> None:
            if not is_quiet:
                print(words, file=sys.stderr, flush=True)

        yield Watching(tasks, say, _SAY_EVERY_S, _words)
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
    num_rounds = sum(tasks.values())
    with Bar(*columns, console=PlainConsole(stderr=True)) as bar:
        task = bar.add_task(f"round 0/{num_rounds}: loading the model", total=num_rounds)
        show = partial(bar.update, task)
        yield Watching(tasks, lambda words, done: show(completed=done, description=words), 0.25, _few_words)


def _few_words(progress: Progress, num_rounds: int) -> str:
    """Tell what fits beside a bar on a narrow terminal."""
    losses = "".join(f", {what} {loss:.3f}" for what, loss in _losses(progress))
    return f"{_which(progress, num_rounds)}: {duration(progress.simulated_ns)}{losses}"


def _losses(progress: Progress) -> Iterator[tuple[str, float]]:
    """Return the losses of a round, with what each is called."""
    for what, name in (("training loss", "train_loss"), ("held-out loss", "eval_loss")):
        if name in progress.measured:
            yield what, progress.measured[name]


def _which(progress: Progress, num_rounds: int) -> str:
    """Return which round has ended, and how many have where they do not end in their order."""
    if progress.task:
        return f"{progress.round}/{num_rounds} of {progress.task}"
    if progress.num_ended in (0, progress.round):
        return f"{progress.round}/{num_rounds}"
    return f"{progress.round}, {progress.num_ended}/{num_rounds} over"


def _words(progress: Progress, num_rounds: int) -> str:
    losses = "".join(f", {what} {loss:.4g}" for what, loss in _losses(progress))
    return (
        f"round {_which(progress, num_rounds)}: {duration(progress.simulated_ns)} simulated, "
        f"{count(progress.num_spans)} spans{losses}"
    )
