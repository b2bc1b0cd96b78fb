"""Methods over paired seeds: held-out loss against bits and against simulated time, with intervals."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import FormatStrFormatter

from analysis.domains import client_losses
from analysis.drawing import Progress, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import Interval, student_t
from cosim.units import Floats

MARKS = "os^Dvx*P"


class Asked(NamedTuple):
    """What an analysis was asked for.

    Attributes
    ----------
    word
        How many seeds and rounds, for figures.
    store_bytes
        What the store is kept to, after each training; None to keep everything.
    """

    scenario: Scenario
    seeds: Sequence[int]
    is_quick: bool
    out: Path
    store: Store
    word: str
    store_bytes: int | None = None


def asked(name: str, about: str | None, scenario: Path, quick_rounds: int, seeds: int = 5) -> Asked:
    """Read the command line of an analysis; ``--quick`` takes two seeds and so many rounds."""
    quick = f"two seeds, {quick_rounds} rounds, to try it"
    told = parsed(parser(name, about, scenario, quick, seeds=seeds))
    read = load(told.scenario)
    if told.quick:
        read = change(read, {"scheme.num_rounds": quick_rounds})
    paired = range(read.seed, read.seed + told.seeds)
    word = what_it_rests_on(read, paired, told.quick)
    return Asked(read, paired, told.quick, told.out, Store(told.store or default_store()), word)


def what_it_rests_on(scenario: Scenario, seeds: Sequence[int], is_quick: bool = False) -> str:
    """Return how many seeds and rounds a figure has, and what its intervals are."""
    told = f"{len(seeds)} seeds, {scenario.scheme.num_rounds} rounds; mean and 95 % interval"
    return f"quick: {told}" if is_quick else told


def trainings(what: Asked, methods: Sequence[Method], round_s: float) -> dict[str, list[Training]]:
    """Return the runs of each method by its name, a seed each; ``round_s`` is what a round takes, s."""
    rounds = what.scenario.scheme.num_rounds
    progress = Progress(trainings=(len(methods) * len(what.seeds), rounds * round_s))
    found: dict[str, list[Training]] = {one.name: [] for one in methods}
    for seed in what.seeds:  # methods of one seed share what they have in common, so that it is computed once
        for method in methods:
            one = train(what.scenario, method, seed, what.out / "runs", what.store)
            found[method.name].append(one)
            if what.store_bytes is not None:
                what.store.prune(max_bytes=what.store_bytes)
            progress.done("trainings", f"{method.name}, seed {seed}: held-out loss {one.losses[-1]:.4f}")
    return found


def mbit(one: Training) -> Floats:
    """Return what went up and came down until each evaluation, Mbit."""
    return one.uplink_mbit + one.downlink_mbit


def draw_losses(found: Mapping[str, Sequence[Training]], what: Asked, name: str) -> None:
    """Draw held-out loss against Mbit both ways and against simulated time, and write both as a table."""
    figure, pair = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True)
    rows = []
    for (method, each), colour, mark in zip(found.items(), cycle(LINE_COLOURS), cycle(MARKS), strict=False):
        losses = student_t(np.array([one.losses for one in each]).T)
        sent, seconds = (
            np.mean([along(one) for one in each], axis=0) for along in (mbit, lambda one: one.seconds)
        )
        for axes, along in zip(pair, (sent, seconds), strict=True):
            axes.errorbar(
                along,
                losses.mean,
                losses.half_width,
                marker=mark,
                ms=3,
                capsize=2,
                color=colour,
                label=method,
            )
        rows += [
            (method, one.seed, int(round_), *numbers)
            for one in each
            for round_, *numbers in zip(one.rounds, one.losses, mbit(one), one.seconds, strict=True)
        ]
    pair[0].set_xlabel("sent both ways, all clients (Mbit)")
    pair[1].set_xlabel("simulated time (s)")
    pair[0].set_ylabel("held-out loss (nats)")
    pair[0].set_yscale("log")
    for formatted in (pair[0].yaxis.set_major_formatter, pair[0].yaxis.set_minor_formatter):
        formatted(FormatStrFormatter("%.2g"))
    least = min(mbit(one)[1] for each in found.values() for one in each)
    pair[0].set_xscale("symlog", linthresh=least)
    pair[0].set_xlim(left=0.0)
    pair[1].legend(fontsize=7)
    figure.suptitle(what.word, fontsize=9)
    save(figure, what.out / name)
    write(what.out / f"{name}.csv", ("method", "seed", "round", "eval_loss", "mbit", "seconds"), rows)


def tell_ends(found: Mapping[str, Sequence[Training]], reference: str) -> None:
    """Print the last loss of each method and its difference from one of them, paired by seed."""
    against = np.array([one.losses[-1] for one in found[reference]])
    for name, each in found.items():
        ends = np.array([one.losses[-1] for one in each])
        worst = student_t(np.array([client_losses(one).max() for one in each]))
        sent = np.mean([mbit(one)[-1] for one in each])
        seconds = np.mean([one.seconds[-1] for one in each])
        print(
            f"{name}: {told(student_t(ends))}, over {reference} {told(student_t(ends - against), '+')}, "
            f"worst client {told(worst)}, {sent:.1f} Mbit, {seconds:.2f} s"
        )


def told(found: Interval, sign: str = "") -> str:
    """Return a mean and its interval in words."""
    return f"{float(found.mean):{sign}.4f} ({float(found.low):{sign}.4f} to {float(found.high):{sign}.4f})"
