"""Draw the comparisons of SOFT and TSFA: PNG, PDF and CSV into one folder, figures in words on stdout."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.methods import EQUAL_BITS, SELECTIONS, SPARSIFICATION_RATIO, online, ranks
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import Interval, student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "soft_tsfa.toml"
_ROUND_S = 1.6
"""A round of training, measured on one core, s."""

_DASHES = ("-", "--", "-.", ":")
_COLOURS = (*LINE_COLOURS, "black")
_NEAR_ZERO = 0.01  # below that the axis of the covariance error is linear, so that a zero is seen

Trainings = Mapping[str, Sequence[Training]]
"""By method; one for each seed, in the order of the seeds."""


def main() -> None:
    """Make every figure and table."""
    options = parser("soft_tsfa", __doc__, SCENARIO, "two seeds, two rounds and two ranks, to try it")
    options.add_argument("--rounds", type=int, default=None, help="rounds; the scenario's, or 2 with --quick")
    options.add_argument("--ranks", default=None, help="ranks of the sweep; 2,4,8,16, or 2,4 with --quick")
    told = parsed(options)
    num_rounds = told.rounds or (2 if told.quick else None)
    sweep = [int(rank) for rank in (told.ranks or ("2,4" if told.quick else "2,4,8,16")).split(",")]
    scenario = load(told.scenario)
    if num_rounds is not None:
        scenario = change(scenario, {"scheme.num_rounds": num_rounds})
    limit_s = scenario.allocator.model_dump().get("latency_limit_s")
    if limit_s is None:
        options.error(f"{told.scenario}: its allocator has no latency_limit_s to compare under")
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    store = Store(told.store or default_store())

    methods = (*SELECTIONS, *online(limit_s), *ranks(sweep))
    each_s = scenario.scheme.num_rounds * _ROUND_S
    progress = Progress(trainings=(len(methods) * len(seeds), each_s))

    def trained(methods: Iterable[Method]) -> dict[str, list[Training]]:
        return {
            method.name: [_train(scenario, method, seed, told.out, store, progress) for seed in seeds]
            for method in methods
        }

    _selections(trained(SELECTIONS), told.out)
    _online(trained(online(limit_s)), limit_s, told.out)
    _ranks(trained(ranks(sweep)), sweep, told.out)


def _train(
    scenario: Scenario, method: Method, seed: int, out: Path, store: Store, progress: Progress
) -> Training:
    found = train(scenario, method, seed, out / "runs", store)
    told = f"held-out loss {found.losses[-1]:.4f}, {found.seconds[-1]:.1f} s"
    progress.done("trainings", f"{method.name}, seed {seed}: {told}")
    return found


def _selections(found: Trainings, out: Path) -> None:
    """Held-out loss at equal bits, and against bits."""
    print(
        f"selection, sparsification ratio {SPARSIFICATION_RATIO:g}, held-out loss after the last round "
        f"(mean, 95 % CI, {_num(found)} seeds):"
    )
    _finals(found, "SOFT", out / "selections.csv")
    _curves(found, "uplink_mbit", "sent by all clients so far, Mbit", out / "loss_against_bits.png")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 3.4), layout="constrained")
    for axes, name, label in (
        (left, "coherence", "coherence of the global factors"),
        (right, "covariance_error", "covariance error, relative"),
    ):
        for number, method in enumerate(found):
            curves = [_mean_by_round(one, name) for one in found[method]]
            if all(len(one) for one in curves):
                mean = student_t(np.array(curves).T).mean
                axes.plot(
                    range(1, len(mean) + 1), mean, _DASHES[number % 4], color=_colour(number), label=method
                )
        _label_rounds(axes, label)
    right.set_yscale("symlog", linthresh=_NEAR_ZERO)
    left.set_ylim(bottom=0.0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, out / "factors.png")


def _online(found: Trainings, limit_s: float, out: Path) -> None:
    """Held-out loss against time, time to a loss, latency against the limit, and the queue."""
    print(f"online, latency limit {limit_s:g} s:")
    _finals(found, "TSFA", out / "online.csv")
    _curves(found, "seconds", "simulated time, s", out / "loss_against_time.png")
    _times_to_loss(found, out)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.4))
    for number, (method, trainings) in enumerate(found.items()):
        running = np.array([np.cumsum(one.round_s) / np.arange(1, len(one.round_s) + 1) for one in trainings])
        mean = student_t(running.T)
        numbers = np.arange(1, running.shape[1] + 1)
        if method != "dense":  # it knows no limit
            left.plot(numbers, mean.mean, _DASHES[number % 4], color=_colour(number), label=method)
            left.fill_between(numbers, mean.low, mean.high, color=_colour(number), alpha=0.15)
        end = student_t(running[:, -1])
        print(f"  {method:<18} average latency {_told(end, 4)} s, {float(end.mean) / limit_s - 1.0:+.1%}")
        queues = [_mean_by_round(one, "queue_s") for one in trainings]
        if all(len(one) for one in queues):
            right.plot(
                range(1, len(queues[0]) + 1),
                student_t(np.array(queues).T).mean,
                _DASHES[number % 4],
                color=_colour(number),
                label=method,
            )
    left.axhline(limit_s, color="black", lw=0.8)
    _label_rounds(left, "average latency so far, s")
    _label_rounds(right, "virtual queue, s")
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    save(figure, out / "latency.png")


def _times_to_loss(found: Trainings, out: Path) -> None:
    """Paired differences of the time to the loss that every limited method reaches."""
    limited = [method for method in found if method != "dense"]
    target = max(float(one.losses.min()) for method in limited for one in found[method])
    rows = []
    times = {
        method: np.array([one.first_reached(target, one.seconds) for one in found[method]])
        for method in found
    }
    print(f"  time to held-out loss {target:.4f}:")
    for method in found:
        if not np.isfinite(times[method]).all():
            print(f"    {method:<18} not reached by every seed")
            continue
        excess = student_t(times[method] - times["TSFA"])
        rows.append(
            (method, float(times[method].mean()), float(excess.mean), float(excess.low), float(excess.high))
        )
        print(f"    {method:<18} {rows[-1][1]:7.2f} s, over TSFA {_told(excess, 2)}")
    write(out / "time_to_loss.csv", ("method", "mean_s", "over_tsfa_s", "low_s", "high_s"), rows)


def _ranks(found: Trainings, sweep: Sequence[int], out: Path) -> None:
    """Draw the full sweep over structural ranks that stage 1 is to make needless."""
    print("rank, under TSFA, held-out loss after the last round:")
    _finals(
        found,
        min(found, key=lambda name: float(np.mean([one.losses[-1] for one in found[name]]))),
        out / "ranks.csv",
    )
    ends = student_t(np.array([[one.losses[-1] for one in found[name]] for name in found]))
    figure, axes = plt.subplots(figsize=(4.5, 3.4))
    axes.errorbar(sweep, ends.mean, ends.half_width, marker="o", capsize=3, color=LINE_COLOURS[0])
    axes.set_xscale("log", base=2)
    axes.set_xticks(sweep, [str(rank) for rank in sweep])
    axes.set_xlabel("LoRA rank")
    axes.set_ylabel("held-out loss (mean and 95 % CI)")
    save(figure, out / "ranks.png")


def _finals(found: Trainings, reference: str, path: Path) -> None:
    """Print and write the last held-out losses, and their paired differences to a reference."""
    ends = {method: np.array([one.losses[-1] for one in trainings]) for method, trainings in found.items()}
    rows = []
    for method, losses in ends.items():
        mean, excess = student_t(losses), student_t(losses - ends[reference])
        mbit = float(np.mean([one.uplink_mbit[-1] for one in found[method]]))
        rows.append((method, mbit, *(float(one) for one in (*mean, *excess))))
        word = "" if method == reference else _verdict(float(excess.low), float(excess.high))
        print(
            f"  {method:<18} {_told(mean, 4)}, {mbit:7.1f} Mbit, over {reference} {_told(excess, 4)} {word}"
        )
    write(path, ("method", "uplink_mbit", "loss", "low", "high", f"over {reference}", "low", "high"), rows)


def _told(found: Interval, digits: int) -> str:
    mean, low, high = (f"{float(one):.{digits}f}" for one in found)
    return f"{mean} ({low} to {high})"


def _verdict(low: float, high: float) -> str:
    return "worse" if low > 0.0 else "better" if high < 0.0 else "no detectable difference"


def _curves(found: Trainings, along: str, label: str, path: Path) -> None:
    """Draw mean and interval of the held-out loss along bits or time, each seed read at common places."""
    figure, axes = plt.subplots(figsize=(5.5, 4.0))
    for number, (method, trainings) in enumerate(found.items()):
        places = [np.asarray(getattr(one, along)) for one in trainings]
        common: Floats = np.linspace(0.0, min(float(one[-1]) for one in places), 120)
        mean = student_t(
            np.array([np.interp(common, at, one.losses) for at, one in zip(places, trainings, strict=True)]).T
        )
        axes.plot(common, mean.mean, _DASHES[number % 4], color=_colour(number), label=method)
        axes.fill_between(common, mean.low, mean.high, color=_colour(number), alpha=0.12)
    if along == "uplink_mbit":
        at_equal = [method for method in found if method in EQUAL_BITS]
        axes.set_xlim(
            0.0, 1.05 * max(float(one.uplink_mbit[-1]) for method in at_equal for one in found[method])
        )
    axes.set_xlabel(label)
    axes.set_ylabel("held-out loss (mean and 95 % CI)")
    axes.set_yscale("log")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis("{x:g}")
    axes.legend(fontsize=7)
    save(figure, path)


def _label_rounds(axes: Any, label: str) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("round")
    axes.set_ylabel(label)


def _mean_by_round(one: Training, name: str) -> list[float]:
    """Return a metric's mean over its actors, round by round; empty if nobody recorded it."""
    by_round: dict[int, list[float]] = {}
    for round_, _, value in one.metrics.get(name, ()):
        by_round.setdefault(round_, []).append(value)
    return [float(np.mean(by_round[round_])) for round_ in sorted(by_round) if round_]


def _num(found: Trainings) -> int:
    return len(next(iter(found.values())))


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


if __name__ == "__main__":
    as_command(main)
