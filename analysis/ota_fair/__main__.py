"""Draw fairness against mean and fairness against noise: PNG, PDF and CSV, in words on stdout."""

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
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "ota_fair.toml"
AIRS: dict[str, dict[str, Any]] = {"no noise": {"radio.noise_psd_dbm_per_hz": -300.0}, "noise": {}}
MEASURES = ("worst", "best", "spread", "mean")
"""Of the held-out losses of clients: largest, smallest, standard deviation, mean."""
_NOISE = "noise power"


def main() -> None:
    """Make every figure and table."""
    options = parser("ota_fair", __doc__, SCENARIO, "two seeds, few weights, 8 rounds, to try it")
    told = parsed(options)
    scenario = load(told.scenario)
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    epsilons = (0.0, 0.1) if told.quick else (0.0, 0.05, 0.1)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    word = f"{'quick: ' if told.quick else ''}{told.seeds} seeds, {rounds} rounds"
    scenario = change(scenario, {"scheme.num_rounds": rounds, "scheme.evaluate_every": rounds})
    store = Store(told.store or default_store())
    progress = Progress(
        local=(told.seeds, 12.0 + 0.5 * rounds),
        trainings=(len(AIRS) * len(epsilons) * told.seeds, 2.0 + 0.6 * rounds),
    )
    alone = np.array([_local_only(scenario, seed, told.out / "runs", store, progress) for seed in seeds])
    found: dict[str, dict[float, Floats]] = {}
    for air, changes in AIRS.items():
        found[air] = {}
        for epsilon in epsilons:
            method = Method(f"{air}, epsilon {epsilon:g}", {**changes, "scheme.weights.epsilon": epsilon})
            each = []
            for seed in seeds:
                each.append(_trained(scenario, method, seed, told.out / "runs", store))
                worst, *_, mean, _ = each[-1]
                progress.done("trainings", f"{method.name}, seed {seed}: worst {worst:.3f}, mean {mean:.3f}")
            found[air][epsilon] = np.array(each)
    _report(alone, found, list(seeds), told.out)
    _draw(found, word, told.out)


def _of_clients(losses: Floats) -> list[float]:
    return [float(one) for one in (losses.max(), losses.min(), losses.std(), losses.mean())]


def _trained(scenario: Scenario, method: Method, seed: int, folder: Path, store: Store) -> list[float]:
    """Return worst, best, spread and mean over clients in the end, and the noise power of the sums."""
    metrics = train(scenario, method, seed, folder, store).metrics
    last = max(round_ for round_, *_ in metrics["client_eval_loss"])
    losses = np.array([loss for round_, _, loss in metrics["client_eval_loss"] if round_ == last])
    noise = np.array([std for *_, std in metrics["air_noise_std"] if np.isfinite(std)])
    return [*_of_clients(losses), float((noise**2).mean())]


def _local_only(scenario: Scenario, seed: int, folder: Path, store: Store, progress: Progress) -> list[float]:
    """Return worst, best, spread and mean where each client trains by itself, as often as in the rounds."""
    losses = []
    for domain in scenario.data.source.model_dump()["domains"]:
        changes = {
            "clients.count": 1,
            "data.source.domains": [domain],
            "data.partition": {"kind": "iid"},
            "radio.medium": {"kind": "fluid"},
            "radio.placement": {"kind": "given", "positions_m": [[200.0, 0.0]]},
        }
        losses.append(train(scenario, Method(f"alone, {domain}", changes), seed, folder, store).losses[-1])
    progress.done("local", f"each client alone, seed {seed}: mean {np.mean(losses):.3f}")
    return _of_clients(np.array(losses))


def _report(alone: Floats, found: dict[str, dict[float, Floats]], seeds: Sequence[int], out: Path) -> None:
    """Print and write the tables: measures by weights and air, and what they differ by from all alike."""
    rows: list[tuple[Any, ...]] = []
    told = {("each alone", ""): alone}
    told |= {(air, f"{epsilon:g}"): ends for air, of_air in found.items() for epsilon, ends in of_air.items()}
    for (air, epsilon), ends in told.items():
        words = []
        for number, name in enumerate(MEASURES):
            mean = student_t(ends[:, number])
            words.append(f"{name} {float(mean.mean):.3f} ({float(mean.low):.3f} to {float(mean.high):.3f})")
            if epsilon not in ("", "0"):
                more = student_t(ends[:, number] - found[air][0.0][:, number])
                words[-1] += f", {float(more.mean):+.3f} ({float(more.low):+.3f} to {float(more.high):+.3f})"
        if air in found:
            ratio = student_t(ends[:, -1] / found[air][0.0][:, -1])
            words.append(f"{_NOISE} {float(ratio.mean):.2f} times that of all alike")
        print(f"{air}{f', epsilon {epsilon}' if epsilon else ''}: " + "; ".join(words))
        none = () if air in found else ("",)  # who trains alone has no sums, and so no noise
        rows += [(air, epsilon, seed, *end, *none) for seed, end in zip(seeds, ends.tolist(), strict=True)]
    write(out / "fairness.csv", ("air", "epsilon", "seed", *MEASURES, _NOISE), rows)


def _draw(found: dict[str, dict[float, Floats]], word: str, out: Path) -> None:
    """Worst client, spread and mean against epsilon, with noise and without."""
    figure, panels = plt.subplots(1, 3, figsize=(9.0, 3.0))
    for axes, name in zip(panels, ("worst", "spread", "mean"), strict=True):
        for number, (air, of_air) in enumerate(found.items()):
            ends = student_t(np.array([one[:, MEASURES.index(name)] for one in of_air.values()]))
            axes.errorbar(
                [*of_air],
                ends.mean,
                ends.half_width,
                marker="os"[number],
                capsize=3,
                color=LINE_COLOURS[number],
                label=air,
            )
        axes.set_xlabel("epsilon")
        axes.set_ylabel(f"{name} held-out loss of clients" if name != "spread" else "standard deviation")
    panels[0].legend(fontsize=8)
    figure.suptitle(f"{word}; mean and 95 % CI", fontsize=8)
    figure.tight_layout()
    save(figure, out / "fairness")


if __name__ == "__main__":
    as_command(main)
