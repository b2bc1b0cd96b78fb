"""Draw the front of biased weights and what is learned on it: PNG, PDF and CSV, in words on stdout."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, save, write
from analysis.soft_tsfa.trainings import Method, train
from cosim.errors import CosimError
from cosim.graph.store import Store, default_store
from cosim.report.span_style import OWNER_COLOURS
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "biased_federated.toml"
_POWER = "radio.federated_uplink.max_total_tx_power_dbm"
_PLENTY_DB = 20.0
OTHERS = (
    Method("least bound", {}),
    Method("all channels known", {"allocator.kind": "equal", "radio.medium.precoding.kind": "zero_forcing"}),
    Method("no noise", {"allocator.theta": 0.0, "radio.noise_psd_dbm_per_hz": -300.0}),
)
"""Beside the places on the front; as the scenario's file lists them."""


def main() -> None:
    """Make every figure and table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.biased_federated", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/analysis-biased-federated"), metavar="DIR")
    parser.add_argument("--scenario", type=Path, default=SCENARIO, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=None, help="paired seeds; 5, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="two seeds, few places, 8 rounds, to try it")
    parser.add_argument(
        "--store", type=Path, default=None, metavar="DIR", help="kept values; else the user's"
    )
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    scenario = load(told.scenario)
    count = told.seeds or (2 if told.quick else 5)
    seeds = range(scenario.seed, scenario.seed + count)
    thetas = (0.0, 0.5, 1.0) if told.quick else (0.0, 0.25, 0.5, 0.75, 1.0)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    word = f"{'quick: ' if told.quick else ''}{count} seeds, {rounds} rounds"
    scenario = change(scenario, {"scheme.num_rounds": rounds})
    _front(scenario, told.out)
    store = Store(told.store or default_store())
    progress = Progress(trainings=((2 * len(thetas) + len(OTHERS)) * count, 0.3 * rounds))
    losses: dict[str, dict[str, Floats]] = {}
    power_dbm = scenario.radio.federated_uplink.max_total_tx_power_dbm
    assert power_dbm is not None
    for air, more in (("little power", 0.0), ("plenty of power", _PLENTY_DB)):
        front = [Method(f"theta {theta:g}", {"allocator.theta": theta}) for theta in thetas]
        methods = [*front, *(OTHERS if not more else ())]
        loud = change(scenario, {_POWER: power_dbm + more})
        losses[air] = {}
        for method in methods:
            found = []
            for seed in seeds:
                found.append(float(train(loud, method, seed, told.out / "runs", store).losses[-1]))
                progress.done(
                    "trainings", f"{air}, {method.name}, seed {seed}: held-out loss {found[-1]:.4f}"
                )
            losses[air][method.name] = np.array(found)
    _learned(losses, thetas, list(seeds), word, told.out)


def _front(scenario: Scenario, out: Path) -> None:
    """Bias, fading and noise of the designs, as they were worked out."""
    places = np.linspace(0.0, 1.0, 21).tolist()
    changes: list[dict[str, Any]] = [{"allocator.theta": theta} for theta in places] + [{}]
    names = ("design_bias", "design_fading", "design_noise")
    terms = []
    for one in changes:
        allocation = prepare(change(scenario, one)).allocation
        assert allocation is not None
        terms.append([allocation.figures[name] for name in names])
    bias, fading, noise = np.array(terms).T
    figure, axes = plt.subplots(figsize=(4.5, 3.4))
    axes.plot(
        bias[:-1], noise[:-1], marker="o", ms=3, color=OWNER_COLOURS[0], label="front, theta from 0 to 1"
    )
    axes.plot(bias[-1:], noise[-1:], "*", ms=10, color=OWNER_COLOURS[5], label="least bound")
    axes.set_yscale("log")
    axes.set_xlabel("squared distance of the weights from the data")
    axes.set_ylabel("noise over the clip, per number")
    axes.legend(fontsize=8)
    save(figure, out / "front")
    rows = zip([*places, "least bound"], bias, fading, noise, strict=True)
    write(out / "front.csv", ("theta", "bias", "fading", "noise"), rows)


def _learned(
    losses: dict[str, dict[str, Floats]], thetas: Sequence[float], seeds: Sequence[int], word: str, out: Path
) -> None:
    """Held-out loss along the front, under little power and plenty."""
    figure, axes = plt.subplots(figsize=(5.0, 3.6))
    for number, (air, found) in enumerate(losses.items()):
        ends = student_t(np.array([found[f"theta {theta:g}"] for theta in thetas]))
        colour = OWNER_COLOURS[number]
        axes.errorbar(
            thetas, ends.mean, ends.half_width, marker="os"[number], capsize=3, color=colour, label=air
        )
    for number, (name, dash) in enumerate(zip([one.name for one in OTHERS], ("--", "-.", ":"), strict=True)):
        colour = OWNER_COLOURS[number + 2]
        axes.axhline(
            float(losses["little power"][name].mean()), ls=dash, color=colour, label=f"{name}, little power"
        )
    axes.set_xlabel("theta: from no bias to least noise")
    axes.set_ylabel("held-out loss (mean and 95 % CI)")
    axes.legend(fontsize=7)
    axes.set_title(word, fontsize=8)
    save(figure, out / "loss")
    rows = []
    for air, found in losses.items():
        reference = found["theta 0"]
        for name, last in found.items():
            mean, excess = student_t(last), student_t(last - reference)
            print(
                f"{air}, {name}: {float(mean.mean):.4f} ({float(mean.low):.4f} to {float(mean.high):.4f}), "
                f"over no bias {float(excess.mean):+.4f} "
                f"({float(excess.low):+.4f} to {float(excess.high):+.4f})"
            )
            rows += [(air, name, seed, float(end)) for seed, end in zip(seeds, last, strict=True)]
    write(out / "loss.csv", ("air", "design", "seed", "eval_loss"), rows)


if __name__ == "__main__":
    try:
        main()
    except CosimError as fault:  # a training that diverged, say
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_status)
