"""Draw fronts of biased weights and what is learned on them: PNG, PDF and CSV, in words on stdout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, train
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
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
DIGITAL: dict[str, Any] = {
    "allocator": {"kind": "biased_digital"},
    "radio.medium": {
        "kind": "fluid",
        "rate": "fixed",
        "fixed_spectral_efficiency_bit_per_s_per_hz": 1.0,
        "outage": "silent",
    },
    "radio.fading.coherence_time_s": 1.0,
    "clients.flop_per_cycle": 1.0,
    "scheme.update": [
        {"kind": "clip", "max_norm": 0.18},
        {"kind": "quantise", "bucket_size": 100_000, "rounding": "dithered"},
    ],
}
"""With bits: the same clip, 0.002 times the root of 8,192 numbers, and a channel that outlasts a slot."""
AIRTIMES_S = (0.005, 0.05)


def main() -> None:
    """Make every figure and table."""
    options = parser("biased_federated", __doc__, SCENARIO, "two seeds, few places, 8 rounds, to try it")
    told = parsed(options)
    scenario = load(told.scenario)
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    thetas = (0.0, 0.5, 1.0) if told.quick else (0.0, 0.25, 0.5, 0.75, 1.0)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    word = f"{'quick: ' if told.quick else ''}{told.seeds} seeds, {rounds} rounds"
    scenario = change(scenario, {"scheme.num_rounds": rounds})
    airtimes_s = AIRTIMES_S[-1:] if told.quick else AIRTIMES_S
    airs = {"over the air": scenario}
    for airtime_s in airtimes_s:
        airs[f"{1e3 * airtime_s:g} ms of slots"] = change(
            scenario, {**DIGITAL, "allocator": {**DIGITAL["allocator"], "airtime_s": airtime_s}}
        )
    _fronts(airs, told.out)
    store = Store(told.store or default_store())
    least, *others = OTHERS
    power_dbm = scenario.radio.federated_uplink.max_total_tx_power_dbm
    assert power_dbm is not None
    airs = {"plenty of power": change(scenario, {_POWER: power_dbm + _PLENTY_DB}), **airs}
    beside = {"plenty of power": [], "over the air": [least, *others]}
    front = [Method(f"theta {theta:g}", {"allocator.theta": theta}) for theta in thetas]
    planned = {air: [*front, *beside.get(air, [least])] for air in airs}
    progress = Progress(trainings=(sum(map(len, planned.values())) * told.seeds, 0.3 * rounds))
    losses: dict[str, dict[str, Floats]] = {}
    for air, methods in planned.items():
        losses[air] = {}
        for method in methods:
            found = []
            for seed in seeds:
                named = Method(f"{air}, {method.name}", method.changes)
                found.append(float(train(airs[air], named, seed, told.out / "runs", store).losses[-1]))
                progress.done("trainings", f"{named.name}, seed {seed}: held-out loss {found[-1]:.4f}")
            losses[air][method.name] = np.array(found)
    _learned(losses, thetas, list(seeds), word, told.out)


def _fronts(airs: dict[str, Scenario], out: Path) -> None:
    """Bias and variance of the designs, as they were worked out."""
    places = np.linspace(0.0, 1.0, 21).tolist()
    changes: list[dict[str, Any]] = [{"allocator.theta": theta} for theta in places] + [{}]
    names = ("design_bias", "design_fading", "design_noise")
    figure, axes = plt.subplots(figsize=(4.8, 3.6))
    rows: list[tuple[Any, ...]] = []
    for number, (air, scenario) in enumerate(airs.items()):
        terms = []
        for one in changes:
            allocation = prepare(change(scenario, one)).allocation
            assert allocation is not None
            terms.append([allocation.figures[name] for name in names])
        bias, fading, noise = np.array(terms).T
        varies, colour = fading + noise, LINE_COLOURS[number]
        axes.plot(bias[:-1], varies[:-1], marker="o", ms=3, color=colour, label=f"{air}, theta from 0 to 1")
        axes.plot(
            bias[-1:], varies[-1:], "*", ms=10, color=colour, label=None if number else "stars: least bound"
        )
        rows += zip([air] * len(terms), [*places, "least bound"], bias, fading, noise, strict=True)
    axes.set_yscale("log")
    axes.set_xlabel("squared distance of the weights from the data")
    axes.set_ylabel("variance over that of the clip")
    axes.legend(fontsize=7)
    save(figure, out / "front")
    write(out / "front.csv", ("air", "theta", "bias", "fading", "noise"), rows)


def _learned(
    losses: dict[str, dict[str, Floats]], thetas: Sequence[float], seeds: Sequence[int], word: str, out: Path
) -> None:
    """Held-out loss along the fronts."""
    figure, axes = plt.subplots(figsize=(5.0, 3.6))
    for number, (air, found) in enumerate(losses.items()):
        ends = student_t(np.array([found[f"theta {theta:g}"] for theta in thetas]))
        colour = LINE_COLOURS[number]
        axes.errorbar(
            thetas, ends.mean, ends.half_width, marker="os^v"[number], capsize=3, color=colour, label=air
        )
    for number, (name, dash) in enumerate(zip([one.name for one in OTHERS], ("--", "-.", ":"), strict=True)):
        colour = LINE_COLOURS[number + 4]
        axes.axhline(
            float(losses["over the air"][name].mean()), ls=dash, color=colour, label=f"{name}, over the air"
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
    as_command(main)
