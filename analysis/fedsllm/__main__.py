"""Draw FedsLLM's comparisons: PNG, PDF and CSV into one folder, figures in words on stdout."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, save, write
from analysis.fedsllm.cells import METHODS, mean_and_interval, state_of, totals_of
from analysis.fedsllm.gaps import SMALL, constant_errors, descents, gaps
from analysis.fedsllm.learning import centralized_losses, losses_per_rank
from cosim.calibrate import smoothed
from cosim.control.solvers.rounds import RoundsTable
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.load import load
from cosim.scenario.settings import Scenario
from cosim.units import Floats

_DRAW_S, _GAPS_S, _ROUND_S = 0.06, 1.0, 2.8
"""Measured on one core, s: all methods on a drawn channel, all searches in a cell, a round of training."""

SCENARIO = Path(__file__).parents[2] / "scenarios" / "fedsllm.toml"
_MARKERS = "os^vD<>"
_LEARNED_RANK = 4


@dataclass(frozen=True)
class Sweep:
    """One figure of delay against something: its values, and the settings each stands for."""

    name: str
    label: str
    points: Mapping[float, dict[str, Any]]


def _uniform(factor: float) -> dict[str, Any]:
    return {"clients.flop_per_cycle": {"kind": "uniform", "low": 43.0 * factor, "high": 171.0 * factor}}


def _power(dbm: float) -> dict[str, Any]:
    total = {
        f"radio.{link}.max_total_tx_power_dbm": dbm + 4.8 for link in ("main_uplink", "federated_uplink")
    }
    return {"clients.max_tx_power_dbm": dbm, **total}


def _band(mhz: float) -> dict[str, Any]:
    return {f"radio.{link}.bandwidth_hz": mhz * 1e6 for link in ("main_uplink", "federated_uplink")}


SWEEPS = (
    Sweep("bandwidth", "bandwidth of each uplink, MHz", {mhz: _band(mhz) for mhz in (5, 7.5, 10, 15, 20)}),
    Sweep("speed", "speed of the clients, times", {one: _uniform(one) for one in (0.25, 0.5, 1, 2, 4)}),
    Sweep(
        "power", "power limit of a client, dBm", {dbm: _power(dbm) for dbm in (17.0, 20.0, 23.0, 26.0, 29.0)}
    ),
    Sweep("clients", "number of clients", {count: {"clients.count": count} for count in (3, 5, 8, 12, 20)}),
)
"""The limit on the sum follows the power limit of a client, 4.8 dB above it as in the scenario."""


def main() -> None:
    """Make every figure and table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.fedsllm", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/analysis-fedsllm"), metavar="DIR")
    parser.add_argument("--cells", type=int, default=30, help="paired seeds")
    parser.add_argument("--quick", action="store_true", help="few cells and short trainings, to try it")
    parser.add_argument(
        "--store", type=Path, default=None, metavar="DIR", help="kept values; else the user's"
    )
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    scenario = load(SCENARIO)
    rounds = RoundsTable.read(SCENARIO.with_name("fedsllm_rounds.json"))
    seeds = range(1, 1 + (4 if told.quick else told.cells))
    draws = 3 if told.quick else 30
    num_rounds, num_seeds = (3, 1) if told.quick else (scenario.scheme.num_rounds, 3)
    cells_s = len(seeds) * _DRAW_S
    progress = Progress(
        tables_of_totals=(1, draws * cells_s),
        sweeps=(len(SWEEPS), 4.0 * min(draws, 10) * cells_s),
        tables_of_gaps=(1, len(seeds) * _GAPS_S),
        trainings=((len(rounds.ranks) + 1) * num_seeds, num_rounds * _ROUND_S),
    )
    _headline(scenario, rounds, seeds, draws, told.out)
    progress.done("tables_of_totals", "totals")
    for sweep in SWEEPS:
        _sweep(sweep, scenario, rounds, seeds, min(draws, 10), told.out)
        progress.done("sweeps", sweep.name)
    _descents(scenario, rounds, seeds[:10], told.out)
    _gaps(scenario, rounds, seeds, told.out)
    _constant(scenario, rounds, seeds, told.out)
    progress.done("tables_of_gaps", "gaps")
    _learning(scenario, rounds, num_seeds, num_rounds, Store(told.store or default_store()), told.out)


def _label(number: int) -> str:
    method = METHODS[number]
    return f"{method.letter}: {method.name}" if method.letter else method.name


def _beside(reduction: float) -> str:
    """Return how far the proposed method is below another, or above it, in words.

    Examples
    --------
    >>> _beside(0.25), _beside(-2.663), _beside(0.0)
    ('25.0% below', '266.3% above', 'the same')
    """
    if not reduction:
        return "the same"
    return f"{abs(reduction):.1%} {'below' if reduction > 0 else 'above'}"


def _headline(scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], draws: int, out: Path) -> None:
    totals = np.array([totals_of(state_of(scenario, seed), rounds, draws) for seed in seeds])
    mean, half = mean_and_interval(totals)
    excess, excess_half = mean_and_interval(totals - totals[:, :1])
    shares, shares_half = mean_and_interval(1.0 - totals[:, :1] / totals)
    rows = []
    print(f"{len(seeds)} paired cells, total delay with measured rounds to target:")
    for number in range(len(METHODS)):
        row = (mean[number], half[number], excess[number], excess_half[number], 1.0 - mean[0] / mean[number])
        rows.append((_label(number), *row, shares[number], shares_half[number]))
        print(
            f"  {_label(number):<38} {mean[number]:8.2f} +- {half[number]:5.2f} s, over proposed "
            f"{excess[number]:7.2f} +- {excess_half[number]:5.2f} s; proposed is "
            f"{_beside(rows[-1][5])} "
            f"(mean of paired reductions {shares[number]:+.1%} +- {shares_half[number]:5.1%})"
        )
    heading = (
        "method",
        "mean_s",
        "ci95_s",
        "excess_s",
        "excess_ci95_s",
        "reduction",
        "paired",
        "paired_ci95",
    )
    write(out / "totals.csv", heading, rows)
    figure, axes = plt.subplots(figsize=(6.5, 3.2))
    places = np.arange(len(METHODS))
    axes.barh(places, mean, xerr=half, color=[LINE_COLOURS[n] for n in places], capsize=3)
    axes.set_yticks(places, [_label(n) for n in range(len(METHODS))])
    axes.invert_yaxis()
    axes.set_xlabel("total delay, s (mean and 95 % CI)")
    save(figure, out / "totals.png")


def _sweep(
    sweep: Sweep, scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], draws: int, out: Path
) -> None:
    values = list(sweep.points)
    means, halves = [], []
    for changes in sweep.points.values():
        found = np.array([totals_of(state_of(scenario, seed, changes), rounds, draws) for seed in seeds])
        mean, half = mean_and_interval(found)
        means.append(mean)
        halves.append(half)
    table, widths = np.array(means), np.array(halves)
    figure, axes = plt.subplots(figsize=(5.5, 4.0))
    for number in range(len(METHODS)):
        axes.errorbar(
            values,
            table[:, number],
            widths[:, number],
            label=_label(number),
            color=LINE_COLOURS[number],
            marker=_MARKERS[number],
            capsize=2,
        )
    axes.set_xlabel(sweep.label)
    axes.set_ylabel("total delay, s (mean and 95 % CI)")
    axes.set_yscale("log")
    if sweep.name in ("speed", "bandwidth", "clients"):
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    axes.legend(fontsize=7, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    save(figure, out / f"delay_against_{sweep.name}.png")
    heading = (
        sweep.name,
        *(f"{_label(n)} {what}" for n in range(len(METHODS)) for what in ("mean_s", "ci95_s")),
    )
    pairs = np.stack([table, widths], axis=2).reshape(len(values), -1)
    write(
        out / f"delay_against_{sweep.name}.csv",
        heading,
        [(v, *row) for v, row in zip(values, pairs, strict=True)],
    )
    print(
        f"against {sweep.name}: proposed "
        + ", ".join(f"{v:g}: {t:.2f} s" for v, t in zip(values, table[:, 0], strict=True))
    )


def _descents(scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], out: Path) -> None:
    found = descents(scenario, rounds, seeds)
    figure, axes = plt.subplots(figsize=(5.5, 3.5))
    starts = list(dict.fromkeys(start for start, *_ in found))
    for start, seed, trace, best in found:
        colour = LINE_COLOURS[starts.index(start)]
        name = f"begun at the {start} cut" if seed == seeds[0] else None
        axes.plot(
            range(1, len(trace) + 1), 100 * (np.array(trace) / best - 1), color=colour, marker=".", label=name
        )
    axes.set_xlabel("half step of the block descent")
    axes.set_ylabel("total delay above the nested search, %")
    axes.legend(fontsize=8)
    save(figure, out / "descent.png")
    rows = [
        (start, seed, step, value, best)
        for start, seed, trace, best in found
        for step, value in enumerate(trace, 1)
    ]
    write(out / "descent.csv", ("start", "seed", "step", "total_s", "nested_s"), rows)
    for start in starts:
        ends = [abs(trace[-1] / best - 1) for one, _, trace, best in found if one == start]
        print(f"descent from the {start} cut: ends {np.mean(ends):.2%} from nested, at most {max(ends):.2%}")


def _gaps(scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], out: Path) -> None:
    rows = []
    for cell, changes in (("small", SMALL), ("scenario", {})):
        found = gaps(scenario, rounds, seeds, changes)
        rows += [(cell, *one.values()) for one in found]
        for kind in dict.fromkeys(one["allocator"] for one in found):
            mine = [one for one in found if one["allocator"] == kind]
            relaxed, proven = ([one[key] for one in mine] for key in ("gap_to_relaxation", "gap_to_proven"))
            stopped = sum(bool(one["stopped_by"]) for one in mine)
            print(
                f"{cell} cell, {kind:<8} above relaxation {np.mean(relaxed):6.2%} (max {max(relaxed):6.2%}), "
                f"above what is proven {np.mean(proven):6.2%} (max {max(proven):6.2%}), "
                f"{np.mean([one['cpu_s'] for one in mine]):.3f} CPU s"
                + (f", {stopped} stopped" if stopped else "")
            )
    heading = (
        "cell",
        "seed",
        "allocator",
        "total_s",
        "gap_to_relaxation",
        "gap_to_proven",
        "cpu_s",
        "stopped_by",
    )
    write(out / "gaps.csv", heading, rows)


def _constant(scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], out: Path) -> None:
    errors, constant = constant_errors(scenario, rounds, seeds)
    write(out / "constant_bandwidth.csv", ("seed", "error"), zip(seeds, errors, strict=True))
    print(
        f"constant bandwidth, {constant / 1e6:.2f} Mbit/s a client: delay off by "
        f"{np.mean(abs(errors)):.1%} on average, {errors.min():+.1%} to {errors.max():+.1%}"
    )


def _learning(
    scenario: Scenario, rounds: RoundsTable, num_seeds: int, num_rounds: int, store: Store, out: Path
) -> None:
    found = losses_per_rank(scenario, sorted(rounds.ranks), num_seeds, num_rounds, store)
    central = centralized_losses(scenario, _LEARNED_RANK, found.seeds, num_rounds, store)
    figure, axes = plt.subplots(figsize=(5.5, 4.0))
    steps = np.arange(num_rounds + 1)
    curves: dict[str, Floats] = {f"rank {rank}": losses for rank, losses in found.losses.items()}
    curves[f"g: centralised, rank {_LEARNED_RANK}"] = central
    for number, (name, losses) in enumerate(curves.items()):
        mean = losses.mean(axis=0)
        style = "--" if name.startswith("g") else "-"
        axes.plot(steps, mean, style, label=name, color=LINE_COLOURS[number], marker=_MARKERS[number], ms=4)
        axes.fill_between(
            steps, losses.min(axis=0), losses.max(axis=0), color=LINE_COLOURS[number], alpha=0.15
        )
    axes.axhline(found.loss_target, color="black", lw=0.7, ls=":")
    axes.set_xlabel("round")
    axes.set_ylabel("held-out loss (mean; band: all seeds)")
    axes.legend(fontsize=8)
    save(figure, out / "convergence.png")
    rows = [
        (name, seed, step, losses[at, step], smoothed(losses)[at, step])
        for name, losses in curves.items()
        for at, seed in enumerate(found.seeds)
        for step in steps
    ]
    write(out / "convergence.csv", ("curve", "seed", "round", "eval_loss", "smoothed"), rows)
    split = np.exp(found.losses[_LEARNED_RANK][:, -1])
    whole = np.exp(central[:, -1])
    gap, half = mean_and_interval(split / whole - 1.0)
    each = ", ".join(f"{rank}: {rounds.round(2).tolist()}" for rank, rounds in found.rounds.items())
    print(f"rounds to loss {found.loss_target:.4f} by rank and seed: {each}")
    print(f"ranks the noise does not separate from the best: {found.best_ranks}")
    print(
        f"held-out perplexity after {num_rounds} rounds, rank {_LEARNED_RANK}: split federated "
        f"{split.mean():.3f}, centralised {whole.mean():.3f}; "
        f"paired gap {float(gap):+.2%}" + (f" +- {float(half):.2%}" if len(split) > 1 else ", one seed")
    )
    heading = ("seed", "split_federated", "centralised")
    write(out / "perplexity.csv", heading, zip(found.seeds, split, whole, strict=True))


if __name__ == "__main__":
    as_command(main)
