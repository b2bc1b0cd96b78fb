"""Draw delays, regret and private learning of matched clients: PNG, PDF and CSV, in words on stdout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store, default_store
from cosim.record.folder import Record
from cosim.report.span_style import LINE_COLOURS
from cosim.runs import resume, run
from cosim.scenario.load import change, load, run_hash
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import NS_PER_S, Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "private_low_latency.toml"
_OPEN: Mapping[str, Any] = {"scheme.privacy": None, "training.gradients": {"kind": "per_example_clipped"}}
CHOICES = (
    Method("oracle", {"allocator.choice": "oracle"}),
    Method("UCB", {}),
    Method("UCB, greedy matching", {"allocator.matching": "greedy"}),
    Method("UCB, exploration 2", {"allocator.exploration": 2.0}),
    Method("delay-greedy", {"allocator.choice": "delay_greedy"}),
    Method("round robin", {"allocator.choice": "round_robin"}),
    Method("random", {"allocator.choice": "random"}),
)
"""Who chooses; as the scenario's file lists them."""

BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "2": {"scheme.privacy.epsilon": 2.0, "training.gradients.noise_multiplier": 4.3},
    "8": {},
    "infinity": _OPEN,
}
"""By epsilon, each with noise that lets an example be used once."""


def main() -> None:
    """Make every figure and table."""
    options = parser("private_low_latency", __doc__, SCENARIO, "two seeds, fewer rounds, to try it")
    options.add_argument("--rounds", type=int, default=None, help="of the bandits; 400, or 100 with --quick")
    told = parsed(options)
    scenario = load(told.scenario)
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    rounds = told.rounds or (100 if told.quick else 400)
    learning = 8 if told.quick else scenario.scheme.num_rounds
    store, word = Store(told.store or default_store()), "quick: " if told.quick else ""
    trainings = [(budget, choice) for budget in BUDGETS for choice in ("UCB", "random")]
    progress = Progress(
        bandits=(len(CHOICES) * told.seeds, 0.012 * rounds),
        trainings=(len(trainings) * told.seeds, 0.6 * learning),
    )
    delays_s: dict[str, Floats] = {}
    for method in CHOICES:
        found = []
        for seed in seeds:
            found.append(_delays_s(scenario, method, seed, rounds, told.out / "runs"))
            progress.done("bandits", f"{method.name}, seed {seed}: {found[-1].mean():.3f} s a round")
        delays_s[method.name] = np.array(found)
    _regret(delays_s, list(seeds), f"{word}{told.seeds} seeds, {rounds} rounds", told.out)
    choices = {one.name: one.changes for one in CHOICES}
    learnt: dict[tuple[str, str], list[Training]] = {}
    scenario = change(scenario, {"scheme.num_rounds": learning})
    for seed in seeds:
        for budget, choice in trainings:
            method = Method(f"epsilon {budget}, {choice}", {**BUDGETS[budget], **choices[choice]})
            one = train(scenario, method, seed, told.out / "runs", store)
            learnt.setdefault((budget, choice), []).append(one)
            progress.done("trainings", f"{method.name}, seed {seed}: held-out loss {one.losses[-1]:.4f}")
    _learned(learnt, list(seeds), f"{word}{told.seeds} seeds, {learning} rounds", told.out)


def _delays_s(scenario: Scenario, method: Method, seed: int, rounds: int, folder: Path) -> Floats:
    """Return how long each round lasts, without a tensor and without a budget."""
    changes = {"scheme.num_rounds": rounds, **_OPEN, **method.changes}
    changed = change(scenario, changes, seed, source=f"method {method.name!r}")
    there = folder / f"delays-{seed}-{run_hash(changed)[:8]}"
    if not (there / "manifest.json").is_file():
        run(changed, there, timing_only=True)
    elif Record.open(there).status != "complete":  # of an analysis that was stopped
        resume(there)
    played = Record.open(there).rounds.to_pydict()
    lasted_ns: Floats = np.array(played["end_ns"]) - np.array(played["start_ns"])
    return lasted_ns / NS_PER_S


def _regret(delays_s: dict[str, Floats], seeds: Sequence[int], word: str, out: Path) -> None:
    """Mean delays, and what was lost against the oracle's mean delay of the same seed."""
    best = delays_s["oracle"].mean(axis=1, keepdims=True)
    rounds = np.arange(1, delays_s["oracle"].shape[1] + 1)
    figure, axes = plt.subplots(figsize=(5.2, 3.6))
    rows, table = [], []
    for number, (name, found) in enumerate(delays_s.items()):
        mean, late = student_t(found.mean(axis=1)), student_t(found[:, found.shape[1] // 2 :].mean(axis=1))
        regret = np.cumsum(found - best, axis=1)
        fit = _fit(rounds, regret.mean(axis=0))
        print(
            f"{name}: {float(mean.mean):.3f} s a round ({float(mean.low):.3f} to {float(mean.high):.3f}), "
            f"second half {float(late.mean):.3f} ({float(late.low):.3f} to {float(late.high):.3f}); "
            f"regret {regret[:, -1].mean():.0f} s, R2 of a logarithm {fit[1]:.3f}, of a line {fit[2]:.3f}, "
            f"{fit[0]:.1f} s per unit of log round"
        )
        table.append((name, mean.mean, mean.low, mean.high, late.mean, late.low, late.high, *fit))
        rows += [
            (name, seed, round_, delay)
            for seed, one in zip(seeds, found, strict=True)
            for round_, delay in zip(rounds.tolist(), one.tolist(), strict=True)
        ]
        if name != "oracle":
            dash = "--" if "greedy matching" in name else "-"
            axes.plot(rounds, regret.mean(axis=0), dash, color=LINE_COLOURS[number], label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1.0)
    axes.set_xlabel("round")
    axes.set_ylabel("regret against the oracle, s")
    axes.legend(fontsize=7)
    axes.set_title(word, fontsize=8)
    save(figure, out / "regret")
    heading = ("choice", "mean_s", "low_s", "high_s", "late_s", "late_low_s", "late_high_s")
    write(out / "delay.csv", (*heading, "log_slope_s", "r2_log", "r2_line"), table)
    write(out / "delays.csv", ("choice", "seed", "round", "delay_s"), rows)


def _fit(rounds: Floats, regret: Floats) -> tuple[float, float, float]:
    """Return the slope of regret over the logarithm of the round, and how well that and a line fit.

    From when each pair of six clients and eight channels, three a round, can have been tried once.
    """
    late = rounds > 16
    spread = ((regret[late] - regret[late].mean()) ** 2).sum()
    found = []
    for along in (np.log(rounds[late]), rounds[late]):
        line = np.polyfit(along, regret[late], 1)
        error = ((regret[late] - np.polyval(line, along)) ** 2).sum()
        found.append((line[0], 1.0 - error / spread if spread else 1.0))
    return float(found[0][0]), float(found[0][1]), float(found[1][1])


def _learned(
    learnt: dict[tuple[str, str], list[Training]], seeds: Sequence[int], word: str, out: Path
) -> None:
    """Held-out loss against simulated time."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6))
    rows = []
    budgets = list(dict.fromkeys(budget for budget, _ in learnt))
    for (budget, choice), found in learnt.items():
        ends, seconds = (
            np.array([one.losses[-1] for one in found]),
            np.array([one.seconds[-1] for one in found]),
        )
        mean, took = student_t(ends), student_t(seconds)
        stopped = [len(one.metrics.get("budget_spent", ())) for one in found]
        print(
            f"epsilon {budget}, {choice}: held-out loss {float(mean.mean):.3f} "
            f"({float(mean.low):.3f} to {float(mean.high):.3f}) after {float(took.mean):.1f} s "
            f"({float(took.low):.1f} to {float(took.high):.1f}); clients stopped: {stopped}"
        )
        grid = np.linspace(0.0, min(one.seconds[-1] for one in found), 40)
        course = np.array([np.interp(grid, one.seconds, one.losses) for one in found])
        band, colour = student_t(course.T), LINE_COLOURS[budgets.index(budget)]
        dash = "-" if choice == "UCB" else "--"
        axes.plot(grid, band.mean, dash, color=colour, label=f"epsilon {budget}, {choice}")
        if len(seeds) > 2:  # of two the interval is wider than the picture
            axes.fill_between(grid, band.low, band.high, color=colour, alpha=0.12, lw=0)
        rows += [
            (budget, choice, seed, second, loss)
            for seed, one in zip(seeds, found, strict=True)
            for second, loss in zip(one.seconds.tolist(), one.losses.tolist(), strict=True)
        ]
    lowest = min(one.losses.min() for found in learnt.values() for one in found)
    highest = max(one.losses[0] for found in learnt.values() for one in found)
    axes.set_ylim(lowest - 0.1, highest + 0.3)
    axes.set_xlabel("simulated time, s")
    axes.set_ylabel("held-out loss, mean" + (" and 95 % CI" if len(seeds) > 2 else ""))
    axes.legend(fontsize=7)
    axes.set_title(word, fontsize=8)
    save(figure, out / "loss")
    write(out / "loss.csv", ("epsilon", "choice", "seed", "time_s", "eval_loss"), rows)


if __name__ == "__main__":
    as_command(main)
