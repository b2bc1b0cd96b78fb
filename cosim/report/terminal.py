"""A summary as tables on a terminal."""

import sys
from collections.abc import Iterator, Mapping
from statistics import fmean, pstdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosim.report.latency_limit import LatencyLimit
from cosim.report.learning import Learning, of_task
from cosim.report.outcome import ActorTime, Delivery, PhaseTotal, Slowest, Summary
from cosim.report.prediction import Prediction
from cosim.report.privacy import Spent
from cosim.report.quantities import amount, count, duration, percent
from cosim.units import NS_PER_S
from cosim.visible import visible

_FILE_WIDTH = 200
_MOST_CLIENTS = 8  # beyond that the table shows the busiest, the median and the idlest client


class PlainConsole(Console):
    """A console on which a text is only a text: no markup in it, and nothing that a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is shown; every text of a line or a table passes through here."""
        return super().render_str(visible(text, keep="\n"), **options)


def on_stdout() -> Console:
    """Return stdout as tables are printed on it; wide enough for all of them where it is no terminal."""
    return PlainConsole(width=None if sys.stdout.isatty() else _FILE_WIDTH)


def show(summary: Summary, console: Console) -> None:
    """Print a summary."""
    status = "" if summary.status == "complete" else f" ({summary.status})"
    console.print(
        f"{summary.name}, seed {summary.seed}{status}: {duration(summary.length_ns)} simulated, "
        f"{summary.rounds_in_words}, {count(summary.num_spans)} spans",
        style="bold",
        highlight=False,
    )
    if summary.status == "diverged":
        say(console, f"diverged: {summary.reason}")
    if summary.status == "killed":
        say(console, summary.reason)
    for learning in summary.learning:
        _show_learning(learning, console)
        if learning.not_finite and summary.status != "diverged":
            told = of_task(f"{count(learning.not_finite)} held-out loss(es)", learning.task)
            say(console, f"diverged: the training went on, and {told} are not finite")
    if summary.actors:
        _show_actors(summary, console)
    if summary.phases:
        _show_phases(summary, console)
        spent = ", ".join(f"{who} {amount(spent, 'J')}" for who, spent in summary.energy_j.items() if spent)
        say(
            console,
            f"energy: {amount(sum(summary.energy_j.values()), 'J')}" + (f" ({spent})" if spent else ""),
        )
    for delivery in summary.deliveries:
        say(console, _delivery(delivery))
    if summary.slowest is not None:
        say(console, _slowest(summary.slowest))
    if summary.prediction is not None:
        say(console, _prediction(summary.prediction))
    if summary.latency_limit is not None:
        for line in _latency_limit(summary.latency_limit):
            say(console, line)
    if summary.spent is not None:
        say(console, _spent(summary.spent))
    if summary.channel:
        say(console, f"channel: {', '.join(summary.channel)}")
    if summary.free_links:
        say(
            console,
            f"free: {', '.join(summary.free_links)}; what they carry arrives at once and costs nothing",
        )
    for line in summary.notes:
        say(console, f"note: {line}")


def _delivery(one: Delivery) -> str:
    told = f"{one.phase}: "
    if one.num_lost:
        told += f"{count(one.num_lost)} of {count(one.num_transfers)} transfer(s) not delivered"
    if one.resent_bits:
        share = f" ({percent(one.resent_bits / one.bits)} of the payload)" if one.bits else ""
        told += f"{', ' if one.num_lost else ''}{amount(one.resent_bits, 'bit')} sent again{share}"
    return told


def _spread(losses: Mapping[str, float]) -> str:
    worst, least = (choose(losses, key=losses.__getitem__) for choose in (max, min))
    return (
        f"mean {fmean(losses.values()):.4g}, std {pstdev(losses.values()):.3g}, "
        f"worst {losses[worst]:.4g} ({worst}), best {losses[least]:.4g} ({least})"
    )


def _show_learning(learning: Learning, console: Console) -> None:
    figure = f", {learning.figure[0]} {learning.figure[1]:.4g}" if learning.figure is not None else ""
    best = learning.best
    lowest = ""
    if best is not None and best.loss != learning.last_loss:
        lowest = f", lowest {best.loss:.4g} after round {best.round}"
    what = of_task("held-out loss", learning.task)
    say(console, f"{what}: {learning.first_loss:.4g} -> {learning.last_loss:.4g}{figure}{lowest}")
    if learning.clients:
        say(
            console,
            f"{of_task('last held-out losses of clients', learning.task)}: {_spread(learning.clients)}",
        )
    if best is None:
        return
    table = table_of((what, "right"), ("reached after", "right"), ("round", "right"))
    for level in learning.levels:
        table.add_row(f"{level.loss:g}", duration(level.time_ns), str(level.round))
    table.add_row(f"{best.loss:.4g}", duration(best.time_ns), str(best.round))
    console.print(table)


def _show_actors(summary: Summary, console: Console) -> None:
    table = table_of(
        ("share of time", "left"), ("compute", "right"), ("on air", "right"), ("waiting", "right")
    )
    clients = summary.clients
    if len(clients) <= _MOST_CLIENTS:
        for one in clients:
            table.add_row(one.actor, *map(percent, one.shares))
    else:
        by_busy = sorted(clients, key=lambda one: one.busy_ns)
        for what, one in (
            ("busiest", by_busy[-1]),
            ("median", by_busy[len(by_busy) // 2]),
            ("idlest", by_busy[0]),
        ):
            table.add_row(f"{one.actor} ({what})", *map(percent, one.shares))
    together: tuple[ActorTime, ...] = (summary.all_clients,) if len(clients) > 1 else ()
    for one in (*together, *summary.actors[len(clients) :]):
        table.add_row(one.actor, *map(percent, one.shares))
    console.print(table)


def _show_phases(summary: Summary, console: Console) -> None:
    table = table_of(
        ("phase", "left"),
        ("spans", "right"),
        ("mean", "right"),
        ("longest", "right"),
        ("of run", "right"),
        ("amount", "right"),
        ("energy", "right"),
    )
    for one in summary.phases:
        table.add_row(
            one.name,
            count(one.num_spans),
            duration(one.mean_ns),
            duration(one.longest_ns),
            percent(one.covered_ns / max(summary.length_ns, 1)),
            _moved(one),
            amount(one.energy_j, "J"),
        )
    console.print(table)


def _moved(phase: PhaseTotal) -> str:
    return amount(phase.bits, "bit") if phase.kind == "transfer" else amount(phase.flop, "FLOP")


def _slowest(slowest: Slowest) -> str:
    times = f"{slowest.busy_ns / slowest.median_ns:.2f} times" if slowest.median_ns else "more than"
    return (
        f"slowest: {slowest.client}, busy for {duration(slowest.busy_ns)}, {times} the median client; "
        f"most of it by {slowest.phase}, {duration(slowest.phase_ns)} against "
        f"{duration(slowest.phase_median_ns)}"
    )


def _prediction(prediction: Prediction) -> str:
    mean_s = float(prediction.predicted_s.mean()), float(prediction.measured_s.mean())
    told = f"predicted: {duration(mean_s[0] * NS_PER_S)} a round, measured {duration(mean_s[1] * NS_PER_S)}"
    worst = int(abs(prediction.errors).argmax())
    if abs(prediction.errors[worst]) >= 1e-6:
        told += (
            f" ({mean_s[1] / mean_s[0] - 1.0:+.2%}; "
            f"round {prediction.rounds[worst]} differs most, by {prediction.errors[worst]:+.2%})"
        )
    if prediction.gap_to_bound is not None:
        told += f"; the first decision is {prediction.gap_to_bound:.2%} above the lower bound"
    return told


def _latency_limit(limit: LatencyLimit) -> Iterator[str]:
    """Tell latencies against the limit, the virtual queue, and how much was sent."""
    latency_s, limit_s = limit.latency_s, float(limit.limit_s.mean())
    told = (
        f"latency: {_seconds(latency_s.mean())} a round on average, the limit is {_seconds(limit_s)} "
        f"({latency_s.mean() / limit_s - 1.0:+.2%}); longest {_seconds(latency_s.max())}"
    )
    if limit.queue_s is not None:
        told += f"; virtual queue {_seconds(limit.queue_s[0])} at first, {_seconds(limit.queue_s[-1])} now"
    yield told
    low, high = limit.extremes
    yield (
        f"kept of the adapters: {percent(limit.mean_ratio)} on average, from {percent(low[0])} of {low[1]} "
        f"in round {low[2]} to {percent(high[0])} of {high[1]} in round {high[2]}"
    )


def _spent(spent: Spent) -> str:
    told = f"privacy: epsilon {spent.lowest:.4g} to {spent.highest:.4g} of {count(len(spent.last))} client(s)"
    stopped = f"; {count(spent.num_stopped)} stopped, with too little left for another round"
    return told + (stopped if spent.num_stopped else "")


def _seconds(time_s: float) -> str:
    return duration(time_s * NS_PER_S)


def table_of(*columns: tuple[str, str]) -> Table:
    """Return an empty table with these headings, each set left or right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, justify in columns:
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def say(console: Console, line: str) -> None:
    """Print one line as it is."""
    console.print(line, highlight=False, soft_wrap=True)
