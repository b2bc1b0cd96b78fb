"""A calibration on the command line: progress, the table that was measured, and the file."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from cosim.calibrate import Calibration, calibrate
from cosim.errors import ScenarioError
from cosim.files import check_outputs, write_output
from cosim.graph.store import Store
from cosim.rank_choice import RankChoice, choose_rank
from cosim.report.quantities import duration
from cosim.report.terminal import on_stdout, say, table_of
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S, Floats
from cosim.visible import show_line as print  # names may come from anybody


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
    stop_early: bool,
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
    check_outputs([file], force=force)  # before the training, which takes long

    def watch(rank: int, seed: int, losses: Floats) -> None:
        print(f"rank {rank}, seed {seed}: held-out loss {losses[0]:.4g} -> {losses[-1]:.4g}", file=sys.stderr)

    found = calibrate(
        scenario,
        wanted,
        num_seeds=seeds,
        num_rounds=rounds,
        stop_early=stop_early,
        store=store,
        watch=watch,
    )
    table = found.table.model_dump_json(indent=2, exclude_none=True) + "\n"
    write_output(file, table.encode(), force=force)
    _show(found)
    print(f"rounds table: {file}")


def choose_rank_to(
    scenario: Scenario,
    ranks: str,
    seeds: int,
    rounds: int | None,
    draws: int,
    file: Path,
    store: Store | None,
    force: bool,
) -> None:
    """Choose a rank for a limit on latency, print what speaks for it and write it down.

    Raises
    ------
    CosimError
        If ranks cannot be compared, or the file is there or cannot be written.
    """
    wanted = ranks_of(ranks)
    check_outputs([file], force=force)  # before the training, which takes long

    def watch(rank: int, seed: int) -> None:
        print(f"pilot of rank {rank}, seed {seed}: done", file=sys.stderr)

    found = choose_rank(
        scenario, wanted, num_seeds=seeds, num_rounds=rounds, num_draws=draws, store=store, watch=watch
    )
    entries = {
        "format": 1,
        "rank": found.best,
        "affordable_pairs": found.num_affordable,
        "energies": found.energies.tolist(),
        "beyond": found.beyond,
        "covariance_per_rank": found.covariance_per_rank,
        "covariances": {str(rank): energy for rank, energy in found.covariances.items()},
        "prices": {str(rank): asdict(price) for rank, price in found.prices.items()},
    }
    write_output(file, (json.dumps(entries, indent=2) + "\n").encode(), force=force)
    _show_choice(found, draws)
    print(f"rank choice: {file}")


def _show_choice(found: RankChoice, draws: int) -> None:
    console = on_stdout()
    columns = ("LoRA rank", "outside the rank", "covariance", "unsent", "in all", "sparsification ratio")
    table = table_of(*((name, "right") for name in columns))
    for rank, price in found.prices.items():
        energies = (price.rank_error, price.covariance, price.unsent, price.total)
        table.add_row(str(rank), *(f"{one:.4g}" for one in energies), f"{price.sparsification_ratio:.3f}")
    console.print(table)
    channel = f"{draws} channels drawn" if draws else "the channel before fading"
    number, largest = found.num_affordable, max(found.prices)
    through = f"{number:.2f} pairs of each matrix get through by the limit"
    if number >= largest * (1.0 - 1e-9):
        told = f"{through}, all of the largest rank: a higher one, or a tighter limit, would tell more"
    elif 0.5 <= found.best / max(number, 1e-9) <= 2.0:
        told = f"{through}, and the rank is near that"
    else:
        told = f"{through}, and the rank is not near that"
    say(console, f"rank {found.best} costs least under {channel}, energy a round; {told}.")
    slope, measured = found.covariance_per_rank, ", ".join(map(str, found.covariances))
    say(console, f"covariance: {slope:.4g} per rank, from pilots of rank {measured}")


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
