"""Draw what a reflecting surface is worth: PNG, PDF and CSV into one folder, figures in words on stdout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load, run_hash
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "reflecting_surface.toml"
METHODS = (
    Method("no surface", {"radio.surface.kind": "none", "allocator.method": "none"}),
    Method("random phases", {"allocator.method": "random", "radio.surface.estimation": "free"}),
    Method("model-free", {"allocator.method": "model_free"}),
    Method("optimised", {}),
)
"""As the scenario's file lists them; random phases need no estimation."""

_DASHES, _MARKERS = (":", "-.", "--", "-"), "xs^o"


@dataclass(frozen=True)
class Plan:
    """How much is drawn: seeds, elements, settings tried, rounds, and what the figures say of it."""

    seeds: tuple[int, ...]
    elements: tuple[int, ...]
    evaluations: tuple[int, ...]
    rounds: int
    word: str

    @classmethod
    def of(cls, first_seed: int, count: int, is_quick: bool) -> "Plan":
        """Return the whole, or what takes minutes."""
        seeds = tuple(range(first_seed, first_seed + count))
        if is_quick:
            return cls(seeds, (16, 64, 256), (20, 160, 640), 4, f"quick: {count} seeds, 4 rounds")
        return cls(
            seeds, (16, 32, 64, 128, 256), (10, 20, 40, 80, 160, 320, 640, 1280, 2560), 8, f"{count} seeds"
        )


def main() -> None:
    """Make every figure and table."""
    options = parser("reflecting_surface", __doc__, SCENARIO, "two seeds and few points, to try it", seeds=10)
    told = parsed(options)
    scenario = load(told.scenario)
    plan = Plan.of(scenario.seed, told.seeds, told.quick)
    progress = Progress(
        searches=(2 * len(plan.evaluations) * len(plan.seeds), 0.3),
        latencies=((len(plan.elements) * 6 + 1) * len(plan.seeds), 0.6),
        trainings=(len(METHODS) * len(plan.seeds), 0.5 * plan.rounds),
    )
    _convergence(scenario, plan, told.out, progress)
    _latencies(scenario, plan, told.out, progress)
    _learning(scenario, plan, told.out, Store(told.store or default_store()), progress)


def _convergence(scenario: Scenario, plan: Plan, out: Path, progress: Progress) -> None:
    """Latency of the first round under the phases found with so many evaluations."""
    found = {
        name: np.array(
            [
                [_searched_s(scenario, name, count, seed, progress) for count in plan.evaluations]
                for seed in plan.seeds
            ]
        )
        for name in ("model_free", "optimised")
    }
    figure, axes = plt.subplots(figsize=(4.5, 3.4))
    for number, latencies in enumerate(found.values(), start=2):
        _curve(axes, number, plan.evaluations, latencies, METHODS[number].name)
    axes.set_xscale("log")
    axes.set_xlabel("settings tried")
    axes.set_ylabel("latency of the first round, s")
    axes.legend(fontsize=8)
    axes.set_title(_title(plan), fontsize=8)
    save(figure, out / "convergence")
    rows = [
        (name, seed, count, float(latencies[at, which]))
        for name, latencies in found.items()
        for at, seed in enumerate(plan.seeds)
        for which, count in enumerate(plan.evaluations)
    ]
    write(out / "convergence.csv", ("method", "seed", "evaluations", "round_s"), rows)
    ratio = student_t(found["model_free"][:, -1] / found["optimised"][:, 0])
    print(
        f"latency of model-free with {plan.evaluations[-1]} trials over optimised with "
        f"{plan.evaluations[0]}: "
        f"{float(ratio.mean):.2f} ({float(ratio.low):.2f} to {float(ratio.high):.2f})"
    )


def _searched_s(scenario: Scenario, method: str, count: int, seed: int, progress: Progress) -> float:
    changes = {"allocator.method": method, "allocator.num_evaluations": count}
    allocation = prepare(change(scenario, changes, seed)).allocation
    assert allocation is not None
    progress.done("searches", f"{method}, {count} settings tried, seed {seed}")
    return float(allocation.figures["surface_latency_s"])


def _latencies(scenario: Scenario, plan: Plan, out: Path, progress: Progress) -> None:
    """Mean latency of a round on the clock against the number of elements, estimation free or modelled."""
    rounds = {"scheme.num_rounds": plan.rounds}
    none = np.array([_round_s(scenario, METHODS[0], rounds, seed, out, progress) for seed in plan.seeds])
    figure, both = plt.subplots(1, 2, figsize=(8.5, 3.4), sharey=True)
    rows = [("no surface", "", 0, seed, one) for seed, one in zip(plan.seeds, none.tolist(), strict=True)]
    for axes, word in zip(both, ("free", "modelled"), strict=True):
        _curve(axes, 0, plan.elements, np.repeat(none[:, None], len(plan.elements), axis=1), METHODS[0].name)
        for number, method in enumerate(METHODS[1:], start=1):
            found = np.array(
                [
                    [
                        _round_s(
                            scenario,
                            method,
                            {
                                **rounds,
                                "radio.surface.num_elements": count,
                                "radio.surface.estimation": word,
                            },
                            seed,
                            out,
                            progress,
                        )
                        for count in plan.elements
                    ]
                    for seed in plan.seeds
                ]
            )
            _curve(axes, number, plan.elements, found, method.name)
            rows += [
                (method.name, word, count, seed, float(found[at, which]))
                for at, seed in enumerate(plan.seeds)
                for which, count in enumerate(plan.elements)
            ]
            shares = student_t(found[:, -1] / none)
            print(
                f"{method.name}, {plan.elements[-1]} elements, estimation {word}: {float(shares.mean):.1%} "
                f"({float(shares.low):.1%} to {float(shares.high):.1%}) of the latency without a surface"
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(plan.elements, [str(count) for count in plan.elements])
        axes.set_xlabel(f"elements (estimation {word})")
    both[0].set_ylabel("mean latency of a round, s")
    both[0].legend(fontsize=8)
    figure.suptitle(_title(plan), fontsize=8)
    save(figure, out / "latency")
    write(out / "latency.csv", ("method", "estimation", "elements", "seed", "round_s"), rows)


def _round_s(
    scenario: Scenario, method: Method, changes: Mapping[str, Any], seed: int, out: Path, progress: Progress
) -> float:
    """Return the mean latency of a round of a run that computes nothing, s."""
    changed = change(scenario, {**changes, **method.changes, **_estimation(changes, method)}, seed)
    folder = out / "runs" / f"timing-{run_hash(changed)[:12]}"
    if not (folder / "manifest.json").is_file():
        run(changed, folder, timing_only=True)
    elif Record.open(folder).status != "complete":  # of an analysis that was stopped
        resume(folder)
    progress.done("latencies", f"{method.name}, {_elements(changes)}seed {seed}")
    return float(Record.open(folder).manifest["simulated_s"]) / changed.scheme.num_rounds


def _estimation(changes: Mapping[str, Any], method: Method) -> Mapping[str, Any]:
    """Return what is asked about estimation where there is any."""
    name = "radio.surface.estimation"
    return {name: changes[name]} if name in changes and name not in method.changes else {}


def _elements(changes: Mapping[str, Any]) -> str:
    count = changes.get("radio.surface.num_elements")
    return "" if count is None else f"{count} elements, "


def _learning(scenario: Scenario, plan: Plan, out: Path, store: Store, progress: Progress) -> None:
    """Held-out loss against simulated time; every method learns the same, in another time."""
    shorter = change(scenario, {"scheme.num_rounds": plan.rounds})
    found: dict[str, list[Training]] = {method.name: [] for method in METHODS}
    for seed in plan.seeds:
        for method in METHODS:
            one = train(shorter, method, seed, out / "runs", store)
            found[method.name].append(one)
            progress.done(
                "trainings", f"{method.name}, seed {seed}: loss {one.losses[-1]:.4f}, {one.seconds[-1]:.2f} s"
            )
    figure, axes = plt.subplots(figsize=(4.5, 3.4))
    for number, (name, trainings) in enumerate(found.items()):
        seconds = np.mean([one.seconds for one in trainings], axis=0)
        losses, colour = student_t(np.array([one.losses for one in trainings]).T), LINE_COLOURS[number]
        axes.plot(seconds, losses.mean, _DASHES[number], marker=_MARKERS[number], color=colour, label=name)
        axes.fill_between(seconds, losses.low, losses.high, color=colour, alpha=0.15)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlabel("simulated time, s (means over seeds)")
    axes.set_ylabel("held-out loss")
    axes.legend(fontsize=8)
    axes.set_title(_title(plan), fontsize=8)
    save(figure, out / "loss_against_time")
    rows = [
        (name, one.seed, int(round_), float(seconds), float(loss))
        for name, trainings in found.items()
        for one in trainings
        for round_, seconds, loss in zip(one.rounds, one.seconds, one.losses, strict=True)
    ]
    write(out / "loss_against_time.csv", ("method", "seed", "round", "seconds", "eval_loss"), rows)
    best = np.array([one.seconds[-1] for one in found["optimised"]])
    for name in ("no surface", "random phases", "model-free"):
        excess = student_t(np.array([one.seconds[-1] for one in found[name]]) / best)
        print(
            f"{plan.rounds} rounds take {name} {float(excess.mean):.2f} "
            f"({float(excess.low):.2f} to {float(excess.high):.2f}) times as long as optimised"
        )


def _curve(axes: Any, number: int, along: Sequence[int], values: Floats, label: str) -> None:
    """Draw mean and 95 % interval over seeds, values of shape (num_seeds, num_points)."""
    mean = student_t(values.T)
    colour = LINE_COLOURS[number]
    axes.plot(along, mean.mean, _DASHES[number], marker=_MARKERS[number], color=colour, label=label)
    axes.fill_between(along, mean.low, mean.high, color=colour, alpha=0.15)


def _title(plan: Plan) -> str:
    return f"{plan.word}; bands are 95 % intervals"


if __name__ == "__main__":
    as_command(main)
