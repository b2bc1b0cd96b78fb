"""Draw mean and worst task loss against seconds and joules: PNG, PDF and CSV, in words on stdout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, recorded
from cosim.graph.store import Store, default_store
from cosim.record.folder import Record
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.load import change, load
from cosim.statistics.interval import student_t
from cosim.units import NS_PER_S, Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "async_multi_model.toml"
METHODS = (
    Method("sync, one by one", {"scheme.kind": "federated", "task_policy.kind": "sequential"}),
    Method("sync, interleaved", {"scheme.kind": "federated", "task_policy.kind": "round_robin"}),
    Method("async, random", {"task_policy.kind": "random"}),
    Method("async, policy", {}),
    Method("async, policy, age x10", {"task_policy.age_weight": 1.0}),
)
"""As the scenario's file lists them, and the policy with ten times the weight on age."""

REFERENCE = "async, random"
_ASYNC_S, _SYNC_S = 0.4, 0.2
"""What a simulated second of a run takes on two quiet cores, s."""


@dataclass(frozen=True)
class Run:
    """One run on a grid of instants.

    Attributes
    ----------
    losses
        Held-out loss of each task, shape (num_tasks, num_instants).
    joules
        What the clients have spent on computing and sending, J, shape (num_instants,).
    num_turns
        Local updates of all tasks, by the end.
    """

    losses: Floats
    joules: Floats
    num_turns: int


def main() -> None:
    """Make every figure and table."""
    options = parser("async_multi_model", __doc__, SCENARIO, "two seeds, a third of the time, to try it")
    told = parsed(options)
    scenario = load(told.scenario)
    assert scenario.task_policy is not None
    until_s = (scenario.task_policy.until_s or 50.0) / (3.0 if told.quick else 1.0)
    scenario = change(scenario, {"task_policy.until_s": until_s})
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    store = Store(told.store or default_store())
    each_s = until_s * (_SYNC_S * 2 + _ASYNC_S * (len(METHODS) - 2)) / len(METHODS)
    progress = Progress(trainings=(len(METHODS) * told.seeds, each_s))
    grid_s = np.linspace(0.0, until_s, 41)
    runs: dict[str, list[Run]] = {method.name: [] for method in METHODS}
    for seed in seeds:
        for method in METHODS:
            record = recorded(scenario, method, seed, told.out / "runs", store)
            one = _read(record, tuple(scenario.tasks), grid_s)
            runs[method.name].append(one)
            ends = ", ".join(f"{loss:.3f}" for loss in one.losses[:, -1])
            progress.done("trainings", f"{method.name}, seed {seed}: held-out losses {ends}")
    word = f"{'quick: ' if told.quick else ''}{told.seeds} seeds, {until_s:.0f} s of simulated time"
    _draw(runs, grid_s, word, told.out)
    _tell(runs, list(seeds), tuple(scenario.tasks), told.out)


def _read(record: Record, tasks: Sequence[str], grid_s: Floats) -> Run:
    """Return losses and energy of a run at some instants; between evaluations losses go straight."""
    rows = [row for row in record.metrics.to_pylist() if row["name"] == "eval_loss"]
    losses = []
    for task in tasks:
        points = sorted((row["time_ns"] / NS_PER_S, row["value"]) for row in rows if row["task"] == task)
        times_s, values = np.array(points).T
        losses.append(np.interp(grid_s, times_s, values))
    spans = record.spans.select(["actor", "name", "end_ns", "energy_j"]).to_pylist()
    own = sorted((row["end_ns"], row["energy_j"]) for row in spans if row["actor"].startswith("client-"))
    ends_s, joules = np.array(own).T
    spent = np.concatenate([[0.0], np.cumsum(joules)])
    uploads = sum(row["name"] == "adapter_upload" for row in spans)
    return Run(np.array(losses), spent[np.searchsorted(ends_s / NS_PER_S, grid_s, side="right")], uploads)


def _along_joules(runs: Sequence[Run], grid_j: Floats) -> Floats:
    """Return the losses at amounts of energy, shape (num_runs, num_tasks, num_amounts)."""
    return np.array([[np.interp(grid_j, one.joules, task) for task in one.losses] for one in runs])


def _draw(runs: Mapping[str, Sequence[Run]], grid_s: Floats, word: str, out: Path) -> None:
    """Draw mean and worst loss over the tasks, against seconds and against joules."""
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 6.4), sharey="row")
    rows = []
    for number, (name, some) in enumerate(runs.items()):
        grid_j = np.linspace(0.0, min(float(one.joules[-1]) for one in some), 41)
        along = {
            "simulated time, s": (grid_s, np.array([one.losses for one in some])),
            "energy of the clients, J": (grid_j, _along_joules(some, grid_j)),
        }
        for column, (label, (grid, losses)) in enumerate(along.items()):
            for row, (what, found) in enumerate(
                (("mean", losses.mean(axis=1)), ("worst", losses.max(axis=1)))
            ):
                ends, colour = student_t(found.T), LINE_COLOURS[number]
                axes[row, column].plot(grid, ends.mean, color=colour, label=name, lw=1.2)
                axes[row, column].fill_between(grid, ends.low, ends.high, color=colour, alpha=0.15, lw=0)
                axes[row, column].set_ylabel(f"{what} held-out loss of the tasks")
                axes[row, column].set_xlabel(label)
                points = zip(grid, ends.mean, ends.low, ends.high, strict=True)
                rows += [(name, label, what, *map(float, point)) for point in points]
    top = max(float(one.losses.max()) for some in runs.values() for one in some)
    for one in axes.flat:
        one.set_ylim(0.0, 1.05 * top)
        one.grid(alpha=0.3)
    axes[0, 1].legend(fontsize=8)
    figure.suptitle(f"{word}; mean and 95 % interval", fontsize=9)
    figure.tight_layout()
    save(figure, out / "loss")
    write(out / "curves.csv", ("method", "along", "loss", "at", "mean", "low", "high"), rows)


def _tell(runs: Mapping[str, Sequence[Run]], seeds: Sequence[int], tasks: Sequence[str], out: Path) -> None:
    """Print and write what all end with, at the same time and at the same energy, against the reference."""
    least_j = min(float(one.joules[-1]) for some in runs.values() for one in some)
    at_j = {name: _along_joules(some, np.array([least_j]))[:, :, 0] for name, some in runs.items()}
    at_s = {name: np.array([one.losses[:, -1] for one in some]) for name, some in runs.items()}
    rows = []
    for name, some in runs.items():
        for place, found in ((f"at {least_j:.0f} J", at_j), ("at the end", at_s)):
            for what in ("mean", "worst"):
                mine, other = (
                    one.mean(axis=1) if what == "mean" else one.max(axis=1)
                    for one in (found[name], found[REFERENCE])
                )
                own, paired = student_t(mine), student_t(mine - other)
                print(
                    f"{name}, {what} loss {place}: {float(own.mean):.3f} ({float(own.low):.3f} to "
                    f"{float(own.high):.3f}), against {REFERENCE} {float(paired.mean):+.3f} "
                    f"({float(paired.low):+.3f} to {float(paired.high):+.3f})"
                )
        spent = np.array([one.joules[-1] for one in some])
        turns = np.array([one.num_turns for one in some])
        print(f"{name}: {spent.mean():.0f} J, {turns.mean():.0f} local updates")
        for seed, one, same_j in zip(seeds, some, at_j[name], strict=True):
            rows.append((name, seed, *one.losses[:, -1], *same_j, one.joules[-1], one.num_turns))
    names = [f"{task}_{when}" for when in ("end", f"at_{least_j:.0f}_j") for task in tasks]
    write(out / "ends.csv", ("method", "seed", *names, "joules", "local_updates"), rows)


if __name__ == "__main__":
    as_command(main)
