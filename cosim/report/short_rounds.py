"""Rounds of very many clients on a terminal: quantiles, outliers, and who was waited for."""

from typing import Any

from rich.console import Console

from cosim.record.folder import Record
from cosim.record.summaries import ALL, LEVELS
from cosim.report.learning import of_task
from cosim.report.quantities import count, duration
from cosim.report.rounds import Rounds
from cosim.report.short import phases_of, rows_in_short
from cosim.report.terminal import say, table_of

_MOST_ROUNDS = 6
_MOST_NAMED = 3
_SHOWN = (50, 95, 100)


def chosen_rounds(record: Record, first: int | None, last: int | None) -> list[dict[str, Any]]:
    """Return the rows of some rounds, both included; the first round alone without them.

    Raises
    ------
    RecordError
        If there are none, or they cannot be read.
    """
    rows = phases_of(record)
    rounds = Rounds.of(record, max((one["end_ns"] for one in rows), default=0))
    keys = {rounds.keys[row] for row in rounds.between(record, first, last).tolist()}
    return [one for one in rows if (one["task"], one["round"]) in keys]


def show_rounds(record: Record, first: int | None, last: int | None, console: Console) -> None:
    """Print how long pieces of work and waits took in some rounds, who ended last, and who was busiest."""
    rows = chosen_rounds(record, first, last)
    headings = [("round", "right"), ("phase", "left"), ("spans", "right")]
    headings += [(f"{what} {_named(level)}", "right") for what in ("lasts,", "waits,") for level in _SHOWN]
    table = table_of(*headings, ("outliers", "right"), ("last to end", "left"))
    rounds = list(dict.fromkeys((one["task"], one["round"]) for one in rows))
    shown = rounds[:_MOST_ROUNDS]
    for one in rows:
        if (one["task"], one["round"]) in shown:
            times = [
                one[name][LEVELS.index(level)] for name in ("durations_ns", "waits_ns") for level in _SHOWN
            ]
            name = "each client, busy" if one["kind"] == ALL else one["name"]
            place = str(one["round"]), of_task(name, one["task"]), count(one["num_spans"])
            ended = one["last"] or one["sender"]
            table.add_row(*place, *map(duration, times), count(one["num_outliers"]), ended)
    console.print(table)
    if len(rounds) > len(shown):
        say(console, f"{count(len(rounds) - len(shown))} more round(s)")
    outliers = rows_in_short(record, "outliers")
    busiest = [one for one in outliers if (one["task"], one["round"]) in shown[:1]]
    told = "; ".join(
        f"{one['client']} {duration(one['compute_ns'] + one['air_ns'])}, waiting {duration(one['wait_ns'])}"
        for one in busiest[:_MOST_NAMED]
    )
    if told:
        say(console, f"{of_task(f'busiest in round {shown[0][1]}', shown[0][0])}: {told}")


def _named(level: int) -> str:
    return {50: "median", 100: "most"}.get(level, f"{level} %")
