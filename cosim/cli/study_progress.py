"""How far a study is, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from cosim.report.quantities import count, duration
from cosim.studies.run_study import Tally
from cosim.units import NS_PER_S
from cosim.visible import show_line as print  # names may come from anybody

if TYPE_CHECKING:
    from rich.table import Table

_SAY_EVERY_S = 10.0


@contextmanager
def watching_study(*, is_quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """Show how far a study is on stderr: a table that lives on a terminal, a line now and then elsewhere."""
    if is_quiet:
        yield lambda tally: None
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.live import Live

    from cosim.report.terminal import PlainConsole

    latest: list[Tally] = []

    def table() -> Any:
        return _table(latest[0]) if latest else "starting"

    with Live(console=PlainConsole(stderr=True), get_renderable=table, refresh_per_second=4):
        yield lambda tally: latest.__setitem__(slice(None), [tally])


def _lines() -> Callable[[Tally], None]:
    said_s = [monotonic() - _SAY_EVERY_S]

    def watch(tally: Tally) -> None:
        is_last = _num_done(tally) == tally.num_runs
        if tally.latest is None or is_last or monotonic() - said_s[0] >= _SAY_EVERY_S:
            said_s[0] = monotonic()
            words = ", ".join(f"{name} {value}" for name, value in _state(tally) if value)
            print(words, file=sys.stderr, flush=True)

    return watch


def _state(tally: Tally) -> Iterator[tuple[str, str]]:
    """Return name and value of what there is to tell of a study under way; a value may be empty."""
    done, made = _num_done(tally), tally.num_made + tally.num_failed
    yield "runs", f"{count(done)}/{count(tally.num_runs)}"
    yield "there before", count(tally.num_kept) if tally.num_kept else ""
    yield "failed", count(tally.num_failed) if tally.num_failed else ""
    yield "diverged", count(tally.num_diverged) if tally.num_diverged else ""
    yield "replications", str(tally.replications)
    yield "still too wide", f"{count(len(tally.wide))} case(s)" if tally.wide else ""
    yield "nodes computed", count(tally.num_computed) if tally.num_computed else ""
    yield "workers", str(tally.num_workers)
    rate = made / tally.elapsed_s if made and tally.elapsed_s else 0.0
    yield "rate", (f"{rate:.3g} a second" if rate >= 1.0 else f"{60.0 * rate:.3g} a minute") if rate else ""
    yield "elapsed", seconds(tally.elapsed_s)
    yield "left", f"about {seconds(tally.left_s)}" if tally.left_s > 0.0 else ""


def _num_done(tally: Tally) -> int:
    return tally.num_kept + tally.num_made + tally.num_failed


def _table(tally: Tally) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("", ProgressBar(total=max(tally.num_runs, 1), completed=_num_done(tally), width=40))
    for name, value in _state(tally):
        if value:
            table.add_row(name, value)
    if tally.latest is not None:
        how = tally.latest.reason or f"took {seconds(tally.latest.wall_s)}"
        table.add_row("latest", how)
    return table


def seconds(number: float) -> str:
    """Return a length of time in words."""
    return duration(number * NS_PER_S)
