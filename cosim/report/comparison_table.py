"""Several runs as a LaTeX table: a column for each."""

from collections.abc import Sequence

import numpy as np

from cosim.record.folder import Record
from cosim.report.comparison import Comparison, compare_all
from cosim.report.latex import Table, measured, plain
from cosim.report.learning import of_task
from cosim.report.outcome import client_shares
from cosim.report.page.comparison_page import run_titles
from cosim.report.rounds import Rounds
from cosim.statistics.interval import student_t
from cosim.units import NS_PER_S


def comparison_table(records: Sequence[Record]) -> Table:
    """Return totals of several runs; a round has the mean of all, with its 95 % interval over rounds.

    Raises
    ------
    RecordError
        If there are fewer than two runs, or one cannot be read.
    """
    compared: Sequence[Comparison] = compare_all(records)
    runs = [compared[0].before, *(one.after for one in compared)]
    rows = [
        ["simulated time, s", *(_cell(one.length_ns / NS_PER_S) for one in runs)],
        ["round, s", *(_round(*pair) for pair in zip(records, (one.length_ns for one in runs), strict=True))],
    ]
    if len(compared) == 1:
        rows += [
            [f"to {old.label}, s", *(_cell(one.time_ns / NS_PER_S) for one in (old, new))]
            for old, new in compared[0].levels
        ]
    for name in dict.fromkeys(phase.name for one in runs for phase in one.phases if phase.covered_ns):
        covered = [{phase.name: phase.covered_ns for phase in one.phases}.get(name) for one in runs]
        cells = [_cell(None if one is None else one / NS_PER_S) for one in covered]
        rows.append([f"{name.replace('_', ' ')}, s", *cells])
    for what, shares in zip(("computing", "on air", "waiting"), client_shares(runs), strict=False):
        rows.append([f"clients {what}, %", *(_cell(100.0 * one, 3) for one in shares)])
    rows.append(["energy, J", *(_cell(sum(one.energy_j.values())) for one in runs)])
    for task in dict.fromkeys(one.task for run in runs for one in run.learning):
        last = [{one.task: one.last_loss for one in run.learning}.get(task) for run in runs]
        rows.append([of_task("last held-out loss, nats", task), *map(_cell, last)])
    told = "Phases: how long at least one span went on. Round: mean, 95 % interval over rounds."
    return Table(["", *run_titles(records)], rows, told)


def _cell(value: float | None, digits: int = 4) -> str:
    return "--" if value is None or not np.isfinite(value) else f"${plain(value, digits)}$"


def _round(record: Record, length_ns: int) -> str:
    rounds = Rounds.of(record, length_ns)
    if not len(rounds):
        return "--"
    found = student_t((rounds.end_ns - rounds.start_ns) / NS_PER_S)
    low, high = (float(end) if np.isfinite(end) else None for end in (found.low, found.high))
    return measured(float(found.mean), low, high)
