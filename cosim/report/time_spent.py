"""Where the time of a run went, on a terminal."""

from collections.abc import Sequence

from rich.console import Console

from cosim.report.attribution import Attribution
from cosim.report.forecast import Saving
from cosim.report.quantities import count, duration, percent
from cosim.report.terminal import say, table_of

_MOST_CAUSES = 8
_MOST_SAVINGS = 3


def show(attribution: Attribution, savings: Sequence[Saving], console: Console) -> None:
    """Print what the critical path went into, and what faster hardware would save."""
    if not attribution.shares:
        return
    total = max(attribution.length_ns, 1)
    table = table_of(
        ("critical path", "left"), ("of run", "right"), ("time", "right"), ("stretches", "right")
    )
    for share in attribution.shares[:_MOST_CAUSES]:
        shown = percent(share.time_ns / total), duration(share.time_ns), count(share.num_stretches)
        table.add_row(share.cause.label, *shown)
    others = attribution.shares[_MOST_CAUSES:]
    if others:
        rest_ns = sum(share.time_ns for share in others)
        stretches = count(sum(share.num_stretches for share in others))
        table.add_row(f"{len(others)} others", percent(rest_ns / total), duration(rest_ns), stretches)
    console.print(table)
    told = [
        f"{one.actor}{' on ' + one.link.replace('_', ' ') if one.link else ''} {duration(one.saved_ns)} "
        f"({percent(one.saved_ns / total)})"
        for one in savings[:_MOST_SAVINGS]
        if one.saved_ns
    ]
    if told:
        say(console, f"{savings[0].speed:g} times as fast would save, grants as they were: {', '.join(told)}")
