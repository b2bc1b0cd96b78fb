"""Play one scenario on every rung of the rate model, timing only: delays, and the order of allocators."""

import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from cosim.record.folder import Record
from cosim.report.span_style import OWNER_COLOURS
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import Interval, student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "slotted.toml"
Changes = dict[str, Any]
_HIGHEST = 6 * 948 / 1024  # bit/s/Hz of the highest scheme of the table
FLUID: dict[str, Changes] = {
    "Shannon": {"radio.medium": {"kind": "fluid"}},
    "gap of 3 dB": {
        "radio.medium": {"kind": "fluid"},
        "radio.rate": {"kind": "shannon", "snr_gap_db": 3.0},
    },
    "capped": {
        "radio.medium": {"kind": "fluid"},
        "radio.rate": {"kind": "truncated_shannon", "max_bit_per_s_per_hz": _HIGHEST},
    },
}
SLOTTED: dict[str, Changes] = {
    f"slots, {kind.replace('_', ' ')}": {"radio.medium.scheduler.kind": kind}
    for kind in (
        *("granted", "round_robin", "max_rate"),
        *("proportional_fair", "earliest_deadline", "remaining_bits"),
    )
}
RUNGS = FLUID | {"slots": SLOTTED["slots, granted"]}
"""The rungs that allocators are compared on."""
ALLOCATORS = ("equal", "random", "time_shared", "fedsllm_2024", "refined")
STILL: Changes = {"radio.fading.coherence_time_s": 1e6}
"""Air that holds still, so that a decision stays right; subchannels differ."""
_TICKS = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def main() -> None:
    """Make every figure and table."""
    options = parser("slotted", __doc__, SCENARIO, "two seeds, one round, to try it", seeds=10)
    told = parsed(options)
    rounds = 1 if told.quick else 2
    scenario = change(load(told.scenario), {"scheme.num_rounds": rounds})
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    word = f"{'quick: ' if told.quick else ''}{told.seeds} seeds, {rounds} round(s); mean and 95 % interval"
    airs = {**FLUID, **SLOTTED}
    progress = Progress(runs=(told.seeds * (len(airs) + len(ALLOCATORS) * len(RUNGS)), 0.6 * rounds))
    delays = {
        name: np.array([_delay_s(scenario, {**changes, "seed": seed}, progress) for seed in seeds])
        for name, changes in airs.items()
    }
    _draw_rungs(delays, seeds, word, told.out)
    found = np.array([_compared(scenario, seed, progress) for seed in seeds])
    _draw_allocators(found, seeds, word, told.out)


def _delay_s(scenario: Scenario, changes: Changes, progress: Progress) -> float:
    """Return how long a run takes in simulated time, s."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        run(change(scenario, changes), place, timing_only=True)
        simulated_s = float(Record.open(place).manifest["simulated_s"])
    progress.done("runs", f"{simulated_s:.2f} s")
    return simulated_s


def _compared(scenario: Scenario, seed: int, progress: Progress) -> Floats:
    """Return the delay under each allocator on each rung, s, shape (num_rungs, num_allocators)."""
    still = change(scenario, {**STILL, "seed": seed})
    chosen = [_decided(change(still, RUNGS["Shannon"]), allocator) for allocator in ALLOCATORS]
    return np.array(
        [[_delay_s(still, {**changes, **one}, progress) for one in chosen] for changes in RUNGS.values()]
    )


def _decided(scenario: Scenario, allocator: str) -> Changes:
    """Return changes that make every rung carry what an allocator decides where rates are Shannon's."""
    named = {"allocator": {"kind": allocator}}
    changed = change(scenario, named)
    if changed.allocator.shares_in_time:
        return named
    allocation = prepare(changed).decisions().decide(0, round_=1)
    links = {
        name: {
            "subchannels": [one.subchannels.tolist() for one in grants],
            "tx_power_w": [one.tx_power_w.tolist() for one in grants],
        }
        for name, grants in allocation.grants.items()
    }
    given = {"kind": "given", "links": links}
    return {
        "allocator": given,
        "model.cut_layer": allocation.cut_layer,
        "lora.rank": allocation.lora_rank,
    }


def _draw_rungs(delays: Mapping[str, Floats], seeds: Sequence[int], word: str, out: Path) -> None:
    """Delay on every rung over that on Shannon's, paired by seed."""
    figure, axes = plt.subplots(figsize=(6.2, 3.6))
    shannon_s = delays["Shannon"]
    names = list(delays)
    print(f"delay over that of Shannon's rate, {word}:")
    for at, name in enumerate(names):
        ratio = student_t(delays[name] / shannon_s)
        colour = OWNER_COLOURS[0] if name in FLUID else OWNER_COLOURS[1]
        axes.errorbar(ratio.mean, at, xerr=ratio.half_width, marker="o", capsize=3, color=colour)
        print(f"  {name}: {_told(ratio)}; {float(student_t(delays[name] - shannon_s).mean):+.2f} s")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color="0.7", lw=0.8)
    axes.set_xlabel("delay over that of Shannon's rate")
    axes.set_title(word, fontsize=8)
    save(figure, out / "rungs")
    rows = [
        (name, seed, float(one))
        for name, each in delays.items()
        for seed, one in zip(seeds, each, strict=True)
    ]
    write(out / "rungs.csv", ("rung", "seed", "delay_s"), rows)


def _draw_allocators(found: Floats, seeds: Sequence[int], word: str, out: Path) -> None:
    """Delay under each allocator on each rung, and how far rungs agree on their order."""
    from scipy.stats import kendalltau

    rungs = list(RUNGS)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 3.6), width_ratios=(3, 2))
    relative = student_t(np.moveaxis(found / found[:, :, :1], 0, -1))  # over the first allocator
    for which, name in enumerate(ALLOCATORS):
        places = np.arange(len(rungs)) + 0.12 * (which - 2)
        mean, half = relative.mean[:, which], relative.half_width[:, which]
        mark, colour = "os^Dv"[which], OWNER_COLOURS[which]
        left.errorbar(places, mean, half, ls="", marker=mark, ms=4, capsize=2, color=colour, label=name)
    left.set_xticks(range(len(rungs)), rungs)
    left.set_yscale("log")
    left.set_yticks(_TICKS, [f"{one:g}" for one in _TICKS])
    left.minorticks_off()
    left.set_ylim(top=2.0 * float(np.nanmax(relative.high)))
    left.set_ylabel(f"delay over that under {ALLOCATORS[0]}")
    left.legend(fontsize=7, ncols=3, loc="upper left")
    rows, pairs = [], list(combinations(range(len(rungs)), 2))
    print(f"agreement of rungs on the order of {len(ALLOCATORS)} allocators (Kendall's tau), {word}:")
    for at, (one, other) in enumerate(pairs):
        taus = np.array([kendalltau(each[one], each[other]).statistic for each in found])
        agreed, name = student_t(taus), f"{rungs[one]} / {rungs[other]}"
        same = float(np.mean(found[:, one].argmin(axis=1) == found[:, other].argmin(axis=1)))
        right.errorbar(agreed.mean, at, xerr=agreed.half_width, marker="o", capsize=3, color=OWNER_COLOURS[0])
        print(f"  {name}: {_told(agreed)}; the same winner in {same:.0%} of seeds")
        rows += [(rungs[one], rungs[other], seed, float(tau)) for seed, tau in zip(seeds, taus, strict=True)]
    right.set_yticks(
        range(len(pairs)), [f"{rungs[one]} / {rungs[other]}" for one, other in pairs], fontsize=7
    )
    right.invert_yaxis()
    right.set_xlim(right=1.05)
    right.set_xlabel("Kendall's tau of the order of allocators")
    figure.suptitle(word, fontsize=8)
    figure.tight_layout()
    save(figure, out / "allocators")
    write(out / "agreement.csv", ("rung", "other_rung", "seed", "kendall_tau"), rows)
    delays = [
        (rung, allocator, seed, float(found[row, at, which]))
        for row, seed in enumerate(seeds)
        for at, rung in enumerate(rungs)
        for which, allocator in enumerate(ALLOCATORS)
    ]
    write(out / "allocators.csv", ("rung", "allocator", "seed", "delay_s"), delays)


def _told(found: Interval) -> str:
    """Return a mean and its interval in words."""
    return f"{float(found.mean):.3f} ({float(found.low):.3f} to {float(found.high):.3f})"


if __name__ == "__main__":
    as_command(main)
