"""Draw held-out loss by which prefixes are shared, and by what the server does: PNG, PDF and CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.domains import client_losses
from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store, default_store
from cosim.report.span_style import LINE_COLOURS
from cosim.rng import stream
from cosim.scenario.build import prepare
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
SHARED = ("all blocks", "scored half", "Hessian half", "random half", "LoRA of the same size")
SCORINGS: Mapping[str, Mapping[str, object]] = {
    "scored half": {"scheme.num_rounds": 1, "scheme.local_steps": 1, "scheme.scored_examples": 8},
    "Hessian half": {
        "scheme.num_rounds": 3,
        "scheme.scored_examples": 4,
        "scheme.scored_by": "hessian",
        "scheme.scored_round": 3,  # after two rounds of warm-up
    },
}
"""The run that scores the blocks, by the method that shares the half of the highest scores."""
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
    options.add_argument(
        "--only", nargs="+", metavar="METHOD", help="these beside 'all blocks'; else every one"
    )
    told = parsed(options)
    scenario = load(told.scenario)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    scenario = change(scenario, {"scheme.num_rounds": rounds})
    word = "quick: " if told.quick else ""
    word += f"{told.seeds} seeds, {rounds} rounds, three of eight clients in each"
    store = Store(told.store or default_store())
    every = {*SHARED, *SERVERS} - {"average"}
    names = {"all blocks", *told.only} if told.only else every
    if names - every:
        options.error(f"--only: no method {sorted(names - every)[0]!r}; known: {', '.join(sorted(every))}")
    scorings = {name: changes for name, changes in SCORINGS.items() if name in names}
    progress = Progress(
        scorings=(told.seeds * len(scorings), 6.0), trainings=(told.seeds * len(names), 1.2 * rounds)
    )
    num_blocks = prepare(scenario).task.shape.num_layers
    found: dict[str, list[Training]] = {}
    rows = []
    for seed in seeds:
        halves = {}
        for name, changes in scorings.items():
            scores, share = _scores(scenario, name, changes, seed, told.out / "runs", store)
            halves[name] = [int(one) + 1 for one in np.argsort(scores)[::-1]][: len(scores) // 2]
            rows.append((name, seed, share, *scores))
            progress.done("scorings", f"{name}, seed {seed}: blocks {', '.join(map(str, halves[name]))}")
        for method in _methods(halves, num_blocks, seed):
            if method.name in names:
                training = train(scenario, method, seed, told.out / "runs", store)
                found.setdefault(method.name, []).append(training)
                progress.done("trainings", f"{method.name}, seed {seed}: loss {training.losses[-1]:.3f}")
    found["average"] = found["all blocks"]
    _draw(found, word, told.out)
    _tell(found, list(seeds), told.out)
    if rows:
        heading = (
            "scoring",
            "seed",
            "shared_ratio",
            *(f"block_{one + 1}" for one in range(len(rows[0]) - 3)),
        )
        write(told.out / "scores.csv", heading, rows)


def _scores(
    scenario: Scenario, name: str, changes: Mapping[str, object], seed: int, runs: Path, store: Store
) -> tuple[list[float], float]:
    """Return the score of each block and the share of blocks to share, nan where the scoring has none.

    Both are means over clients, who have equal data.
    """
    once = Method(f"scoring of {name}", {**_ALL, **_PLAIN, **changes})
    metrics = train(scenario, once, seed, runs, store).metrics
    means = {key: float(np.mean([value for *_, value in told])) for key, told in metrics.items()}
    count = sum(key.startswith("block_score_") for key in means)
    scores = [means[f"block_score_{block}"] for block in range(1, count + 1)]
    return scores, means.get("shared_ratio", np.nan)


def _methods(scored: Mapping[str, Sequence[int]], num_blocks: int, seed: int) -> list[Method]:
    """Return every method; half the blocks are those of the highest scores, or drawn."""
    drawn = stream(seed, "random half").generator().permutation(num_blocks)[: num_blocks // 2] + 1
    halves = {name: sorted(blocks) for name, blocks in {**scored, "random half": map(int, drawn)}.items()}
    shared = [
        Method(name, {**_PLAIN, "scheme.aggregator": {"kind": "chosen_blocks", "blocks": blocks}})
        for name, blocks in halves.items()
    ]
    followed = [
        Method(name, {**_ALL, "scheme.server_optimizer": server})
        for name, server in SERVERS.items()
        if name != "average"
    ]
    return [Method("all blocks", {**_ALL, **_PLAIN}), *shared, Method(SHARED[-1], _LORA), *followed]


def _draw(found: Mapping[str, Sequence[Training]], word: str, out: Path) -> None:
    """Loss along the bits of uploads by what is shared, and along rounds by what the server does."""
    panels = (
        (SHARED, "uplink_mbit", "uploads, Mbit of all clients"),
        (tuple(SERVERS), "rounds", "round (all blocks shared)"),
    )
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4))
    for axis, (names, along, label) in zip(axes, panels, strict=True):
        for number, name in enumerate(names):
            if name not in found:
                continue
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
    as_command(main)
