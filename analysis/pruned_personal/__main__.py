"""Draw what pruning saves of a round, and what is learned by when: PNG, PDF and CSV, in words on stdout."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.schemes.pruned_federated import PrunedFederated
from cosim.statistics.interval import student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "pruned_personal.toml"
_AMPLE: dict[str, Any] = {"allocator.latency_limit_s": 1000.0}
_SHARED: dict[str, Any] = {"scheme.aggregator.kind": "fedavg"}
ROUNDS = (
    Method("equal bandwidth", {"allocator.kind": "equal"}),
    Method("optimal bandwidth", _AMPLE),
    Method("0.3 left out", {**_AMPLE, "scheme.ratio": 0.3}),
    Method("0.5 left out", {**_AMPLE, "scheme.ratio": 0.5}),
    Method("adaptive", {}),
)
"""What a round takes, over drops; bandwidth is optimal but for the first."""

TRAININGS = (
    Method("no pruning", _AMPLE),
    Method("one half", {**_AMPLE, "scheme.ratio": 0.5}),
    Method("adaptive", {}),
    Method("no pruning, nothing private", {**_AMPLE, **_SHARED}),
    Method("adaptive, nothing private", _SHARED),
)
"""What is learned; as the scenario's file lists them."""


def main() -> None:
    """Make every figure and table."""
    options = parser(
        "pruned_personal",
        __doc__,
        SCENARIO,
        "two seeds, half of the time, to try it",
        store="keep values; 100 MB a round",
    )
    options.add_argument("--drops", type=int, default=None, help="drops of a round; 20, or 5 with --quick")
    told = parsed(options)
    scenario = load(told.scenario)
    drops = range(scenario.seed, scenario.seed + (told.drops or (5 if told.quick else 20)))
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    budget_s = 15.0 if told.quick else 30.0
    word = f"{'quick: ' if told.quick else ''}{len(seeds)} seeds, {budget_s:g} simulated s"
    work = sum(_num_rounds(scenario, one, seeds[0], budget_s) for one in TRAININGS)
    progress = Progress(drops=(len(ROUNDS) * len(drops), 0.3), rounds=(work * len(seeds), 1.2))
    _rounds(scenario, drops, progress, told.out)
    store = None if told.store is None else Store(told.store)
    found: dict[str, list[Training]] = {method.name: [] for method in TRAININGS}
    for seed in seeds:
        for method in TRAININGS:
            rounds = _num_rounds(scenario, method, seed, budget_s)
            longer = change(scenario, {"scheme.num_rounds": rounds})
            found[method.name].append(train(longer, method, seed, told.out / "runs", store))
            last = _client_losses(found[method.name][-1])[-1]
            for _ in range(rounds):
                progress.done("rounds", f"{method.name}, seed {seed}: loss of clients {last.mean():.4f}")
    _learned(found, budget_s, word, told.out)
    _devices(scenario, found, told.out)


def _num_rounds(scenario: Scenario, method: Method, seed: int, budget_s: float) -> int:
    """Return the rounds that fill a simulated time."""
    return ceil(budget_s / _round_s(scenario, method, seed)[0])


def _round_s(scenario: Scenario, method: Method, seed: int) -> tuple[float, Floats]:
    """Return how long a round of a drop lasts, s, and what each client leaves out."""
    changed = change(scenario, method.changes, seed)
    prepared = prepare(changed)
    decisions, allocation = prepared.decisions(), prepared.allocation
    assert allocation is not None
    assert isinstance(changed.scheme, PrunedFederated)
    decisions.apply(allocation, 0, 1)
    round_s = decisions.predicted_round_s()
    assert round_s is not None
    clients = range(changed.num_clients)
    each = [allocation.setting.of("pruning_ratio", client, changed.scheme.ratio) for client in clients]
    return round_s, np.array(each)


def _rounds(scenario: Scenario, drops: Sequence[int], progress: Progress, out: Path) -> None:
    """How long a round lasts, over drops."""
    lasts, ratios, rows = {}, {}, []
    for method in ROUNDS:
        found = []
        for drop in drops:
            found.append(_round_s(scenario, method, drop))
            progress.done("drops", f"{method.name}, drop {drop}: {found[-1][0]:.2f} s a round")
        lasts[method.name] = np.array([round_s for round_s, _ in found])
        ratios[method.name] = np.array([each.mean() for _, each in found])
        rows += [
            (method.name, drop, one, each.mean()) for drop, (one, each) in zip(drops, found, strict=True)
        ]
    write(out / "round_time.csv", ("method", "drop", "round_s", "mean_ratio"), rows)
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    ends = student_t(np.array([*lasts.values()]))
    axes.bar(range(len(ROUNDS)), ends.mean, yerr=ends.half_width, capsize=3, color=LINE_COLOURS[0])
    for number, (name, one) in enumerate(lasts.items()):
        axes.plot([number] * len(one), one, ".", ms=3, color=LINE_COLOURS[1])
        axes.annotate(f"{ratios[name].mean():.2f} out", (number, 0.3), ha="center", fontsize=7, color="white")
        share = student_t(one / lasts["optimal bandwidth"])
        print(
            f"{name}: {float(one.mean()):.2f} s a round ({one.min():.2f} to {one.max():.2f}), "
            f"{float(share.mean):.1%} ({float(share.low):.1%} to {float(share.high):.1%}) of optimal "
            f"bandwidth without pruning; {float(ratios[name].mean()):.3f} left out"
        )
    axes.set_xticks(range(len(ROUNDS)), [name.replace(" ", "\n") for name in lasts], fontsize=8)
    axes.set_ylabel("a round, s (mean, 95 % CI, drops)")
    axes.set_title(f"{len(drops)} drops", fontsize=8)
    save(figure, out / "round_time")


def _client_losses(training: Training) -> Floats:
    """Return the held-out loss of each client on its own domain, shape (num_evaluations, num_clients)."""
    by_round: dict[int, list[float]] = {}
    for round_, _, value in training.metrics["client_eval_loss"]:
        by_round.setdefault(round_, []).append(value)
    return np.array([by_round[round_] for round_ in sorted(by_round)])


def _learned(found: Mapping[str, list[Training]], budget_s: float, word: str, out: Path) -> None:
    """Loss of clients on their own domains against simulated time."""
    grid = np.linspace(0.0, budget_s, 31)
    figure, axes = plt.subplots(figsize=(5.4, 3.8))
    curves, rows = {}, []
    pruned = [name for name in found if "," not in name]
    for name, trainings in found.items():
        each = np.array([np.interp(grid, one.seconds, _client_losses(one).mean(axis=1)) for one in trainings])
        ends = student_t(each.T)
        colour, dash = LINE_COLOURS[pruned.index(name.partition(",")[0])], "--" if "," in name else "-"
        axes.plot(grid, ends.mean, dash, color=colour, label=name)
        axes.fill_between(grid, ends.low, ends.high, color=colour, alpha=0.15, lw=0)
        curves[name] = each
        worst = [_client_losses(one)[-1].max() for one in trainings]
        rows += [
            (name, one.seed, second, loss)
            for one, curve in zip(trainings, each, strict=True)
            for second, loss in zip(grid.tolist(), curve.tolist(), strict=True)
        ]
        last, gain = student_t(each[:, -1]), student_t(each[:, -1] - curves["no pruning"][:, -1])
        print(
            f"{name}: loss after {budget_s:g} s {float(last.mean):.3f} ({float(last.low):.3f} to "
            f"{float(last.high):.3f}), over no pruning {float(gain.mean):+.3f} ({float(gain.low):+.3f} to "
            f"{float(gain.high):+.3f}); worst client {np.mean(worst):.3f}; "
            f"{np.mean([one.rounds[-1] for one in trainings]):.1f} rounds, "
            f"{np.mean([one.uplink_mbit[-1] for one in trainings]):.0f} Mbit"
        )
    axes.set_xlabel("simulated time, s")
    axes.set_ylabel("held-out loss on own domain (mean, 95 % CI)")
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=7)
    axes.set_title(word, fontsize=8)
    save(figure, out / "loss")
    write(out / "loss.csv", ("method", "seed", "simulated_s", "client_eval_loss"), rows)


def _devices(scenario: Scenario, found: Mapping[str, list[Training]], out: Path) -> None:
    """Write what devices hold and compute: peak memory, and FLOP of a local step."""
    rows = []
    for method in TRAININGS:
        held, flop = [], []
        for one in found[method.name]:
            changed = change(scenario, method.changes, one.seed)
            task, scheme = prepare(changed).task, changed.scheme
            assert isinstance(scheme, PrunedFederated)
            held += [value for _, _, value in one.metrics["memory_bytes"]]
            _, ratios = _round_s(scenario, method, one.seed)
            flop += [scheme.amounts(task, 1, ratio).flop for ratio in ratios.tolist()]
        rows.append((method.name, np.mean(held) / 2**20, max(held) / 2**20, np.mean(flop) / 1e9))
        print(
            f"{method.name}: {rows[-1][1]:.1f} MiB held by a client in the mean, {rows[-1][2]:.1f} at most; "
            f"{rows[-1][3]:.2f} GFLOP a local step"
        )
    heading = "method", "mean_memory_mib", "peak_memory_mib", "step_gflop"
    write(out / "devices.csv", heading, rows)


if __name__ == "__main__":
    as_command(main)
