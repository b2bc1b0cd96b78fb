"""A calibration on the command line: progress, the table that was measured, and the file."""

import sys
from pathlib import Path

from cosim.calibrate import Calibration, calibrate
from cosim.errors import ScenarioError
from cosim.learning.store import Store
from cosim.record.folder import write_whole
from cosim.report.quantities import duration
from cosim.report.terminal import on_stdout, say, table_of
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S, Floats


def ranks_of(text: str) -> list[int]:
    """Return the ranks of ``1,2,4``.

    Raises
    ------
    ScenarioError
        If it is no list of positive numbers.

    Examples
    --------
    >>> ranks_of("1,2,4")
    [1, 2, 4]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ScenarioError(f"--ranks {text}: must be positive numbers with commas between, such as 1,2,4.")
    return [int(part) for part in parts]


def calibrate_to(
    scenario: Scenario,
    ranks: str,
    seeds: int,
    rounds: int | None,
    file: Path,
    store: Store | None,
    force: bool,
) -> None:
    """Calibrate, print what came of it and write the table.

    Raises
    ------
    CosimError
        If ranks cannot be compared, or the file is there or cannot be written.
    """
    wanted = ranks_of(ranks)
    if file.exists() and not force:
        raise ScenarioError(f"--out {file}: exists already; replace it with --force, or name another.")

    def watch(rank: int, seed: int, losses: Floats) -> None:
        print(f"rank {rank}, seed {seed}: held-out loss {losses[0]:.4g} -> {losses[-1]:.4g}", file=sys.stderr)

    found = calibrate(scenario, wanted, num_seeds=seeds, num_rounds=rounds, store=store, watch=watch)
    try:
        write_whole(file, (found.table.model_dump_json(indent=2, exclude_none=True) + "\n").encode())
    except OSError as fault:
        raise ScenarioError(f"--out {file}: cannot be written: {fault.strerror}.") from None
    _show(found)
    print(f"rounds table: {file}")


def _show(found: Calibration) -> None:
    console = on_stdout()
    say(console, f"held-out loss to reach: {found.loss_target:.4g}; seeds {', '.join(map(str, found.seeds))}")
    columns = [("LoRA rank", "right"), ("rounds", "right"), ("std", "right")]
    if found.round_s:
        columns += [("shortest round", "right"), ("in all", "right")]
    table = table_of(*columns)
    for rank, measured in found.table.ranks.items():
        row = [str(rank), f"{measured.rounds:.2f}", f"{measured.std:.2f}"]
        if found.round_s:
            round_s = found.round_s[rank]
            row += [duration(round_s * NS_PER_S), duration(measured.rounds * round_s * NS_PER_S)]
        table.add_row(*row)
    console.print(table)
    fit = found.table.fit
    if fit is not None:
        say(console, f"fit: {fit.e0:.3g} + {fit.e1:.3g} rank^-{fit.beta:.3g} rounds")
    best = ", ".join(map(str, found.best_ranks))
    least = "total delay" if found.round_s else "number of rounds"
    if len(found.best_ranks) == 1:
        say(console, f"least {least}: rank {best}")
    else:
        say(console, f"least {least}: rank {{{best}}}; the noise over seeds does not separate these")
