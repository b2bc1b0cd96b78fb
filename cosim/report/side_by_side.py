"""A comparison as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from cosim.leaves import is_asked, named
from cosim.report.alignment import RoundPair
from cosim.report.comparison import Comparison, differences
from cosim.report.learning import of_task
from cosim.report.outcome import Summary, client_shares
from cosim.report.quantities import amount, count, duration, percent
from cosim.report.terminal import say, table_of

_MOST_ROUNDS = 8  # beyond that the table shows those that changed the most


def show(comparison: Comparison, console: Console, asked: Mapping[str, Any] | None = None) -> None:
    """Print what changed from one run to the other.

    ``asked`` are the changes somebody asked for, by path: what else differs is then
    told apart from them.
    """
    before, after = comparison.before, comparison.after
    table = table_of(("", "left"), ("before", "right"), ("after", "right"), ("change", "right"))

    def times(what: str, old_ns: float, new_ns: float) -> None:
        table.add_row(what, duration(old_ns), duration(new_ns), _change(old_ns, new_ns))

    times("simulated time", before.length_ns, after.length_ns)
    for old, new in comparison.levels:
        times(f"  to {old.label}", old.time_ns, new.time_ns)
    names = [phase.name for phase in (*before.phases, *after.phases)]
    covered = [{phase.name: phase.covered_ns for phase in run.phases} for run in (before, after)]
    for name in dict.fromkeys(names):
        times(name, covered[0].get(name, 0), covered[1].get(name, 0))
    for what, (was, now) in zip(
        ("compute", "on air", "waiting"), client_shares((before, after)), strict=False
    ):
        table.add_row(f"clients {what}", percent(was), percent(now), f"{100 * (now - was):+.1f} points")
    spent = [sum(run.energy_j.values()) for run in (before, after)]
    table.add_row("energy", amount(spent[0], "J"), amount(spent[1], "J"), _change(*spent))
    if comparison.other_rounds:
        for task in _tasks((before, after)):
            losses = [_last_loss(run, task) for run in (before, after)]
            is_same = "same" if losses[0] == losses[1] else "another"
            table.add_row(of_task("last held-out loss", task), *losses, is_same)
    if before.latency_limit is not None or after.latency_limit is not None:
        change = "another allocator"
        if before.latency_limit is not None and after.latency_limit is not None:
            change = f"{100 * (after.latency_limit.mean_ratio - before.latency_limit.mean_ratio):+.1f} points"
        table.add_row("kept of the adapters", _kept(before), _kept(after), change)
    slowest = [run.slowest.client if run.slowest is not None else "none" for run in (before, after)]
    paths = [_longest(comparison, side) for side in (0, 1)]
    if any(one.shares for one in comparison.attributions):  # a run in short has none
        table.add_row("critical path", *paths, "same" if paths[0] == paths[1] else "another")
    table.add_row("slowest client", *slowest, "same" if slowest[0] == slowest[1] else "another")
    console.print(table)
    _show_rounds(comparison.rounds, console)
    for line in (*_settings(comparison.settings, asked), *_lines(comparison)):
        say(console, line)


def show_all(comparisons: Sequence[Comparison], labels: Sequence[str], console: Console) -> None:
    """Print several runs side by side, each against the first.

    ``labels`` name the runs, the first one included. Two runs are shown as by
    :func:`show`, with what is the same said in full.

    Raises
    ------
    ValueError
        If there is no comparison, or not a label for every run.
    """
    if not comparisons or len(labels) != len(comparisons) + 1:
        raise ValueError(f"{len(comparisons)} comparison(s) need that many labels and one, got {len(labels)}")
    runs = [comparisons[0].before, *(one.after for one in comparisons)]
    for label, run in zip(labels, runs, strict=True):
        if run.status != "complete":
            how = f"{run.status} ({run.reason.rstrip('.')})" if run.reason else run.status
            say(console, f"{label}: the run is {how}; it is shown as far as it came")
    if len(comparisons) == 1:
        show(comparisons[0], console)
        return
    table = table_of(("", "left"), *((label, "right") for label in labels))
    table.add_row("simulated time", *_against([run.length_ns for run in runs]))
    covered = [{phase.name: phase.covered_ns for phase in run.phases} for run in runs]
    for name in dict.fromkeys(name for one in covered for name in one):
        table.add_row(name, *_against([one.get(name, 0) for one in covered]))
    for what, shares in zip(("compute", "on air", "waiting"), client_shares(runs), strict=False):
        table.add_row(f"clients {what}", *map(percent, shares))
    table.add_row("energy", *(amount(sum(run.energy_j.values()), "J") for run in runs))
    for task in _tasks(runs) or [""]:
        table.add_row(of_task("last held-out loss", task), *(_last_loss(run, task) for run in runs))
    if any(run.latency_limit is not None for run in runs):
        table.add_row("kept of the adapters", *map(_kept, runs))
    table.add_row("slowest client", *(run.slowest.client if run.slowest else "none" for run in runs))
    console.print(table)
    for label, comparison in zip(labels[1:], comparisons, strict=True):
        for line in (*_settings(comparison.settings, None), *_lines(comparison)):
            say(console, f"{label}: {line}")


def _against(times_ns: Sequence[int]) -> list[str]:
    """Return times, each with its ratio to the first where there is one."""
    first, *others = times_ns
    return [
        duration(first),
        *(f"{duration(one)} ({one / first:.3g}x)" if first else duration(one) for one in others),
    ]


def _tasks(runs: Sequence[Summary]) -> list[str]:
    """Return the tasks of which something was learned in any of the runs."""
    return list(dict.fromkeys(one.task for run in runs for one in run.learning))


def _last_loss(run: Summary, task: str) -> str:
    return next((f"{one.last_loss:.4g}" for one in run.learning if one.task == task), "none")


def _kept(run: Summary) -> str:
    """Return what an allocator let be sent; nothing where the codec had its own way."""
    return "" if run.latency_limit is None else percent(run.latency_limit.mean_ratio)


def _show_rounds(rounds: Sequence[RoundPair], console: Console) -> None:
    """Print the rounds that changed, with the phase that changed the most in each; nothing if none did."""
    changed = sorted((one for one in rounds if one.change_ns), key=lambda one: -abs(one.change_ns))
    if not rounds:
        say(console, "rounds: neither run has any")
    if not changed:
        return
    shown = sorted(changed[:_MOST_ROUNDS], key=lambda one: one.round)
    if len(changed) > len(shown):
        say(console, f"rounds that changed the most, {len(shown)} of {count(len(changed))}:")
    table = table_of(
        ("round", "right"),
        ("before", "right"),
        ("after", "right"),
        ("change", "right"),
        ("most of it by", "left"),
    )
    for one in shown:
        changes = {name: now - was for name, (was, now) in one.phase_ns.items()}
        name = max(changes, key=lambda name: abs(changes[name]), default="")
        by = f"{name}, {_signed(changes[name])}" if name and changes[name] else "waiting"
        before, after = (duration(time_ns) if time_ns else "none" for time_ns in one.length_ns)
        table.add_row(one.label.removeprefix("round "), before, after, _signed(one.change_ns), by)
    console.print(table)


def _signed(time_ns: int) -> str:
    return f"{'-' if time_ns < 0 else '+'}{duration(abs(time_ns))}"


def _longest(comparison: Comparison, side: int) -> str:
    """Return what the critical path of a run spent the most time on."""
    found = comparison.attributions[side]
    for phase, time_ns in found.by_phase().items():
        return f"{percent(time_ns / found.length_ns)} {phase}"
    return "none"


def _settings(settings: Mapping[str, tuple[Any, Any]], asked: Mapping[str, Any] | None) -> list[str]:
    """Return in which settings two runs differ, those that nobody asked for in a line of their own."""
    wanted = None if asked is None else named(asked)
    if wanted is None:
        return [f"settings that differ: {differences(settings)}"] if settings else ["settings: all the same"]
    unwanted = {path: both for path, both in settings.items() if not is_asked(path, wanted)}
    return [f"settings that differ, though not asked for: {differences(unwanted)}"] if unwanted else []


def _lines(comparison: Comparison) -> list[str]:
    lines = []
    parting = comparison.divergence
    if parting is None:
        is_short = not any(one.shares for one in comparison.attributions)
        lines.append(f"timelines: the same, {'in all summaries of rounds' if is_short else 'span for span'}")
    else:
        lines.append(f"timelines part in {parting.place}: {parting.before}; now {parting.after}")
    for task, rounds in (comparison.other_learning or {}).items():
        differs = f"differs in {_rounds(rounds)}" if rounds else "the same, value for value"
        lines.append(f"{of_task('learning', task)}: {differs}")
    if comparison.computed or comparison.recalled:
        lines.append(
            f"training: {count(comparison.recalled)} node(s) recalled from the store, "
            f"{count(comparison.computed)} computed again"
        )
    return lines


def _rounds(rounds: tuple[int, ...]) -> str:
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    if len(rounds) == rounds[-1] - rounds[0] + 1:
        return f"rounds {rounds[0]} to {rounds[-1]}"
    return f"{len(rounds)} rounds from {rounds[0]} to {rounds[-1]}"


def _change(old: float, new: float) -> str:
    if old == new:
        return "same"
    return f"{new / old:.3g} times" if old else "new"
