"""Banking77 on MiniLM: accuracy against bits and simulated time, clients that hold different intents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from analysis.curves import MARKS, trainings, what_it_rests_on
from analysis.curves import Asked as Curves
from analysis.drawing import save, write
from analysis.real_model.jobs import SCENARIOS, Asked, Job
from analysis.soft_real.methods import COS
from analysis.soft_tsfa.trainings import Method, Training
from cosim.report.span_style import LINE_COLOURS
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import Floats

ALPHAS = (0.1, 0.5)
_RATIO = 0.25
_SOFT = {"kind": "soft", "sparsification_ratio": _RATIO}
_RUN_S = 46.0
_ALONG = ("uplink_mbit", "seconds")


def _method(codec: Mapping[str, Any] | None = None, **aggregator: Any) -> dict[str, Any]:
    return {"scheme.adapter_codec": codec or {"kind": "none"}, "scheme.aggregator": aggregator}


METHODS: Mapping[str, Mapping[str, Any]] = {
    "dense": _method(kind="fedavg"),
    "SOFT": {**_method(_SOFT, kind="fedavg"), "scheme.regularizer": COS},
    "SOFT, no feedback": {
        **_method({**_SOFT, "error_feedback": False}, kind="fedavg"),
        "scheme.regularizer": COS,
    },
    "energy": _method(_SOFT, kind="fedavg"),
    "energy, 21 rounds": {**_method(_SOFT, kind="fedavg"), "scheme.num_rounds": 21},
    "FFA": _method(kind="ffa"),
    "FedSA": _method(kind="fedsa"),
    "hetlora": _method(kind="hetlora", client_ranks=[16, 8, 4, 4]),
}
"""Rank 16; ``hetlora`` has ranks 16, 8, 4 and 4. In 21 rounds as many bits are sent as densely in 6."""


def scenario_of(asked: Asked) -> Scenario:
    """Return Banking77 on MiniLM, nothing cut; its folders are beside those of SmolLM2 and of E2E."""
    found = load(SCENARIOS / "minilm_banking77.toml")
    changes: dict[str, Any] = {
        "scheme": {"kind": "federated", "num_rounds": 6, "local_steps": 4, "evaluate_every": 3},
        "lora.rank": 16,
        "allocator": {"kind": "equal"},
    }
    if "model.base.path" in asked.changes:
        changes["model.base.path"] = str(Path(asked.changes["model.base.path"]).with_name("minilm-l6"))
    if "data.source.train_path" in asked.changes:
        folder = Path(asked.changes["data.source.train_path"]).parents[1] / "banking77"
        changes |= {f"data.source.{side}_path": str(folder / f"{side}.csv") for side in ("train", "test")}
    return change(found, changes)


def banking77(asked: Asked) -> None:
    """Train every method at both skews, whole seeds one after the other, and draw accuracies."""
    scenario = scenario_of(asked)
    if asked.is_quick:
        scenario = change(
            scenario, {"scheme.num_rounds": 2, "scheme.evaluate_every": 1, "data.source.max_test": 77}
        )
    seeds = range(scenario.seed, scenario.seed + (2 if asked.is_quick else 3))
    rounds = scenario.scheme.num_rounds
    word = what_it_rests_on(scenario, seeds)
    what = Curves(scenario, seeds, asked.is_quick, asked.out, asked.store, word, asked.store_bytes)
    methods = {
        (alpha, name): Method(
            f"{name}, alpha {alpha:g}", {**changes, "data.partition": {"kind": "dirichlet", "alpha": alpha}}
        )
        for alpha in ALPHAS[: 1 if asked.is_quick else None]
        for name, changes in METHODS.items()
        if not (asked.is_quick and "scheme.num_rounds" in changes)
    }
    found = trainings(what, list(methods.values()), _RUN_S / rounds)
    _draw({key: found[method.name] for key, method in methods.items()}, what)


def accuracies(one: Training) -> Floats:
    """Return the held-out accuracy at each evaluation."""
    return np.array([value for _, _, value in sorted(one.metrics["eval_accuracy"])])


def _draw(found: Mapping[tuple[float, str], list[Training]], what: Curves) -> None:
    alphas = list(dict.fromkeys(alpha for alpha, _ in found))
    figure, grid = plt.subplots(len(alphas), 2, figsize=(9.5, 3.6 * len(alphas)), sharey="row", squeeze=False)
    rows = []
    for (alpha, name), each in found.items():
        number = list(METHODS).index(name)
        of_seeds = np.array([accuracies(one) for one in each])
        mean = student_t(of_seeds.T)
        gap = student_t(of_seeds[:, -1] - np.array([accuracies(one)[-1] for one in found[alpha, "dense"]]))
        axes_of_alpha = grid[alphas.index(alpha)]
        for axes, along in zip(axes_of_alpha, _ALONG, strict=True):
            axes.errorbar(
                np.mean([getattr(one, along) for one in each], axis=0),
                mean.mean,
                mean.half_width,
                marker=MARKS[number],
                ms=3,
                capsize=2,
                color=LINE_COLOURS[number % len(LINE_COLOURS)],
                label=name,
            )
        mbit, seconds = (float(np.mean([getattr(one, along)[-1] for one in each])) for along in _ALONG)
        numbers = [float(one[-1]) for one in mean] + [float(one) for one in gap]
        rows.append((alpha, name, mbit, seconds, *numbers))
        print(
            f"  alpha {alpha:g}, {name}: accuracy {numbers[0]:.3f} ({numbers[1]:.3f} to {numbers[2]:.3f}), "
            f"over dense {numbers[3]:+.3f} ({numbers[4]:+.3f} to {numbers[5]:+.3f}), "
            f"{mbit:.0f} Mbit, {seconds:.1f} s"
        )
    for axes_of_alpha, alpha in zip(grid, alphas, strict=True):
        axes_of_alpha[0].set_ylabel(f"held-out accuracy, alpha {alpha:g}")
        axes_of_alpha[0].set_xlabel("sent up, all clients (Mbit)")
        axes_of_alpha[1].set_xlabel("simulated time (s)")
    grid[0][1].legend(fontsize=7)
    figure.suptitle(what.word, fontsize=9)
    save(figure, what.out / "banking77")
    heading = ("alpha", "method", "uplink_mbit", "seconds", "accuracy", "low", "high")
    write(what.out / "banking77.csv", (*heading, "over_dense", "over_low", "over_high"), rows)


JOBS = (Job("banking77", 63 * _RUN_S, 12 * 0.4 * _RUN_S, banking77),)
"""Times measured on one core."""
