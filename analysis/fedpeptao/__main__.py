"""Draw held-out loss by which prefixes are shared, and by what the server does: PNG, PDF and CSV."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.domains import client_losses
from analysis.drawing import Progress, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.errors import CosimError
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
from cosim.rng import stream
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t

SCENARIO = Path(__file__).parents[2] / "scenarios" / "fedpeptao.toml"
_ALL = {"scheme.aggregator": {"kind": "fedavg"}}
_PLAIN = {"scheme.server_optimizer": {"kind": "none"}}
_LORA = {
    **_ALL,
    **_PLAIN,
    "trainable": None,
    "lora": {"rank": 10},
    "training.optimizer": {"kind": "adamw", "learning_rate": 1e-2},
}
SHARED = ("all blocks", "scored half", "random half", "LoRA of the same size")
SERVERS: Mapping[str, Mapping[str, object]] = {
    "average": {"kind": "none"},
    "momentum": {"kind": "fedpeptao", "momentum": 0.5, "control": False},
    "control": {"kind": "fedpeptao", "momentum": 0.0},
    "momentum and control": {"kind": "fedpeptao", "momentum": 0.5},
    "the authors' code": {"kind": "fedpeptao_code"},
}


def main() -> None:
    """Score the blocks, train every method, and make figure and tables."""
    options = parser("fedpeptao", __doc__, SCENARIO, "two seeds, 8 rounds, to try it")
    told = options.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    scenario = load(told.scenario)
    count = told.seeds or (2 if told.quick else 5)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    seeds = range(scenario.seed, scenario.seed + count)
    scenario = change(scenario, {"scheme.num_rounds": rounds})
    word = f"{'quick: ' if told.quick else ''}{count} seeds, {rounds} rounds, three of eight clients in each"
    store = Store(told.store or default_store())
    trainings = (len(SHARED) + len(SERVERS) - 1) * count
    progress = Progress(scorings=(count, 3.0), trainings=(trainings, 1.2 * rounds))
    found: dict[str, list[Training]] = {}
    scores = []
    for seed in seeds:
        scored, scores_of_seed = _scored(scenario, seed, told.out / "runs", store)
        scores.append(scores_of_seed)
        progress.done("scorings", f"seed {seed}: blocks by score {', '.join(map(str, scored))}")
        for method in _methods(scored, seed):
            training = train(scenario, method, seed, told.out / "runs", store)
            found.setdefault(method.name, []).append(training)
            progress.done("trainings", f"{method.name}, seed {seed}: loss {training.losses[-1]:.3f}")
    found["average"] = found["all blocks"]
    _draw(found, word, told.out)
    _tell(found, list(seeds), told.out)
    heading = ("seed", *(f"block_{number}" for number in range(1, len(scores[0]) + 1)))
    write(told.out / "scores.csv", heading, [(seed, *one) for seed, one in zip(seeds, scores, strict=True)])


def _scored(scenario: Scenario, seed: int, runs: Path, store: Store) -> tuple[list[int], list[float]]:
    """Return the blocks by falling score, and the score of each, mean over clients (who have equal data)."""
    once = {
        "scheme.num_rounds": 1,
        "scheme.local_steps": 1,
        "scheme.aggregator": {"kind": "fedavg"},
        "scheme.scored_examples": 8,
        **_PLAIN,
    }
    metrics = train(scenario, Method("scoring", once), seed, runs, store).metrics
    count = sum(name.startswith("block_score_") for name in metrics)
    scores = [
        float(np.mean([value for *_, value in metrics[f"block_score_{block}"]]))
        for block in range(1, count + 1)
    ]
    return [int(one) + 1 for one in np.argsort(scores)[::-1]], scores


def _methods(scored: Sequence[int], seed: int) -> list[Method]:
    """Return every method; half the blocks are those of the highest scores, or drawn."""
    half = len(scored) // 2
    drawn = stream(seed, "random half").generator().permutation(len(scored))[:half] + 1
    halves = {"scored half": sorted(scored[:half]), "random half": sorted(map(int, drawn))}
    shared = [
        Method(name, {**_PLAIN, "scheme.aggregator": {"kind": "chosen_blocks", "blocks": blocks}})
        for name, blocks in halves.items()
    ]
    followed = [
        Method(name, {**_ALL, "scheme.server_optimizer": server})
        for name, server in SERVERS.items()
        if name != "average"
    ]
    return [Method("all blocks", {**_ALL, **_PLAIN}), *shared, Method(SHARED[3], _LORA), *followed]


def _draw(found: Mapping[str, Sequence[Training]], word: str, out: Path) -> None:
    """Loss along the bits of uploads by what is shared, and along rounds by what the server does."""
    panels = (
        (SHARED, "uplink_mbit", "uploads, Mbit of all clients"),
        (tuple(SERVERS), "rounds", "round (all blocks shared)"),
    )
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4))
    for axis, (names, along, label) in zip(axes, panels, strict=True):
        for number, name in enumerate(names):
            places = np.mean([getattr(one, along) for one in found[name]], axis=0)
            band = student_t(np.array([one.losses for one in found[name]]).T)
            colour = LINE_COLOURS[number]
            axis.plot(places, band.mean, marker="os^Dv"[number], ms=3, color=colour, label=name)
            axis.fill_between(places, band.low, band.high, alpha=0.15, color=colour, lw=0)
        axis.set_xlabel(label)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("held-out loss (mean and 95 % CI)")
    figure.suptitle(word, fontsize=8)
    save(figure, out / "loss")


def _tell(found: Mapping[str, Sequence[Training]], seeds: Sequence[int], out: Path) -> None:
    """Last losses against all blocks by FedAvg, in words and as CSV."""
    reference = np.array([one.losses[-1] for one in found["all blocks"]])
    rows = []
    for name, trainings in found.items():
        ends = np.array([one.losses[-1] for one in trainings])
        mean, excess = student_t(ends), student_t(ends - reference)
        own = float(np.mean([client_losses(one).mean() for one in trainings]))
        worst = float(np.mean([client_losses(one).max() for one in trainings]))
        print(
            f"{name}: loss {float(mean.mean):.3f} +- {float(mean.half_width):.3f}, over all blocks "
            f"{float(excess.mean):+.3f} +- {float(excess.half_width):.3f}; on the clients' own domains "
            f"{own:.3f}, worst {worst:.3f}; {trainings[0].uplink_mbit[-1]:.2f} Mbit up, "
            f"{float(trainings[0].seconds[-1]):.2f} s"
        )
        rows += [
            (name, seed, *row)
            for seed, one in zip(seeds, trainings, strict=True)
            for row in zip(one.rounds, one.uplink_mbit, one.seconds, one.losses, strict=True)
        ]
    write(out / "loss.csv", ("method", "seed", "round", "uplink_mbit", "seconds", "eval_loss"), rows)


if __name__ == "__main__":
    try:
        main()
    except CosimError as fault:  # a training that diverged, say
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_status)
