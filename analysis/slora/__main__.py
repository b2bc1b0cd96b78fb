"""Draw what SLoRA learns against bits and simulated time beside its baselines: PNG, PDF and CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np

from analysis.curves import asked, draw_losses, tell_ends, told, trainings
from analysis.drawing import as_command, write
from analysis.soft_tsfa.trainings import Method, Training
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t

SCENARIO = Path(__file__).parents[2] / "scenarios" / "slora.toml"
ROUND_S = 2.0
FULL_RATE = 1e-3
"""What suits all weights; adapters and sparse changes have the scenario's."""


def methods(scenario: Scenario) -> list[Method]:
    """Return SLoRA both ways, and its baselines with the scenario's own sparse stage and adapters."""
    (stage,) = (one.model_dump(mode="json") for one in scenario.scheme.earlier_stages)
    alone: dict[str, Any] = {"scheme.stages": []}
    rate = "training.optimizer.learning_rate"
    sparse = {"trainable": stage["trainable"], "training.optimizer": stage["optimizer"]}
    return [
        Method("LoRA", alone),
        Method("full", {**alone, "trainable": {"kind": "full"}, rate: FULL_RATE}),
        Method("sparse", {**alone, **sparse}),
        *(
            Method(name, {"scheme.stages": [{**stage, "handover": {"kind": "svd", "keep_residual": keep}}]})
            for name, keep in (("SLoRA", False), ("SLoRA with residual", True))
        ),
    ]


def main() -> None:
    """Make every figure and table."""
    what = asked("slora", __doc__, SCENARIO, quick_rounds=3)
    found = trainings(what, methods(what.scenario), ROUND_S)
    draw_losses(found, what, "loss")
    tell_ends(found, "LoRA")
    rows = [row for name in found if name.startswith("SLoRA") for row in _switch(name, found[name])]
    write(what.out / "switch.csv", ("method", "seed", "loss_before", "loss_after", "kept_energy"), rows)


def _switch(name: str, each: Sequence[Training]) -> list[tuple[Any, ...]]:
    """Tell what the switch does to the loss and how much of the change the adapters keep; return the rows."""
    rows: list[tuple[Any, ...]] = []
    for one in each:
        ((round_, _, after),) = one.metrics["handover_eval_loss"]
        ((_, _, kept),) = one.metrics["handover_kept_energy"]
        before = one.losses[int(np.flatnonzero(one.rounds == round_ - 1)[0])]
        rows.append((name, one.seed, float(before), after, kept))
    before, after, kept = np.array([row[2:] for row in rows]).T
    print(
        f"{name}: switch from {told(student_t(before))} to {told(student_t(after))}, "
        f"energy kept {told(student_t(kept))}"
    )
    return rows


if __name__ == "__main__":
    as_command(main)
