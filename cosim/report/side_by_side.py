"""A comparison as tables on a terminal."""

from rich.console import Console

from cosim.report.comparison import Comparison
from cosim.report.quantities import amount, count, duration, percent
from cosim.report.terminal import say, table_of


def show(comparison: Comparison, console: Console) -> None:
    """Print what changed from one run to the other."""
    before, after = comparison.before, comparison.after
    table = table_of(("", "left"), ("before", "right"), ("after", "right"), ("change", "right"))

    def times(what: str, old_ns: float, new_ns: float) -> None:
        table.add_row(what, duration(old_ns), duration(new_ns), _change(old_ns, new_ns))

    times("simulated time", before.length_ns, after.length_ns)
    for old, new in comparison.levels:
        times(f"  to held-out loss {old.loss:g}", old.time_ns, new.time_ns)
    names = [phase.name for phase in (*before.phases, *after.phases)]
    covered = [{phase.name: phase.covered_ns for phase in run.phases} for run in (before, after)]
    for name in dict.fromkeys(names):
        times(name, covered[0].get(name, 0), covered[1].get(name, 0))
    shares = before.all_clients.shares, after.all_clients.shares
    for what, was, now in zip(("compute", "on air", "waiting"), *shares, strict=True):
        table.add_row(f"clients {what}", percent(was), percent(now), f"{100 * (now - was):+.1f} points")
    spent = [sum(run.energy_j.values()) for run in (before, after)]
    table.add_row("energy", amount(spent[0], "J"), amount(spent[1], "J"), _change(*spent))
    slowest = [run.slowest.client if run.slowest is not None else "none" for run in (before, after)]
    table.add_row("slowest client", *slowest, "same" if slowest[0] == slowest[1] else "another")
    console.print(table)
    for line in _lines(comparison):
        say(console, line)


def _lines(comparison: Comparison) -> list[str]:
    lines = []
    parting = comparison.divergence
    if parting is None:
        lines.append("timelines: the same, span for span")
    else:
        where = f"round {parting.round}" + (
            f", local step {parting.local_step}" if parting.local_step else ""
        )
        lines.append(f"timelines part in {where}: {parting.before}; now {parting.after}")
    rounds = comparison.other_rounds
    if rounds is not None:
        lines.append(
            f"learning: differs in {_rounds(rounds)}" if rounds else "learning: the same, value for value"
        )
    if comparison.computed or comparison.recalled:
        lines.append(
            f"training: {count(comparison.recalled)} work(s) recalled from the store, "
            f"{count(comparison.computed)} computed anew"
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
