"""Draw bias and held-out loss of LoRA-FAIR beside other aggregators, and over its penalty: PNG, PDF, CSV."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.curves import MARKS, Asked, asked, draw_losses, tell_ends, told, trainings
from analysis.drawing import as_command, save, write
from analysis.soft_tsfa.trainings import Method, Training
from cosim.report.span_style import LINE_COLOURS
from cosim.statistics.interval import student_t
from cosim.units import Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "lora_fair.toml"
PENALTIES = (0.0, 0.01, 0.1, 1.0)
ROUND_S = 2.0


def _with(**settings: Any) -> dict[str, Any]:
    return {"scheme.aggregator": settings}


OTHERS = (
    Method("FedIT", _with(kind="fedavg")),
    Method("FedEx", _with(kind="fedex")),
    Method("FLoRA", _with(kind="flora")),
)
FORMS = ("closed", "cosine")


def _fair(form: str, penalty: float) -> Method:
    return Method(f"FAIR {form} {penalty:g}", _with(kind="lora_fair", form=form, penalty=penalty))


def main() -> None:
    """Make every figure and table."""
    what = asked("lora_fair", __doc__, SCENARIO, quick_rounds=2)
    penalties = (0.01, 1.0) if what.is_quick else PENALTIES
    fair = [_fair(form, penalty) for form in FORMS for penalty in penalties]
    found = trainings(what, [*OTHERS, *fair], ROUND_S)
    main_ones = [*(one.name for one in OTHERS), *(_fair(form, 0.01).name for form in FORMS)]
    shown = {name: found[name] for name in main_ones}
    draw_losses(shown, what, "loss")
    _draw_bias(shown, what)
    _draw_penalty(found, penalties, what)
    tell_ends(found, "FedIT")


def bias(one: Training) -> Floats:
    """Return the bias of each round."""
    return np.array([value for _, _, value in sorted(one.metrics["product_bias"])])


def _draw_bias(found: Mapping[str, Sequence[Training]], what: Asked) -> None:
    """Draw how far the product after a round is from the mean product."""
    figure, axes = plt.subplots(figsize=(4.8, 3.6))
    rows = []
    for (name, each), colour, mark in zip(found.items(), cycle(LINE_COLOURS), cycle(MARKS), strict=False):
        values = np.array([bias(one) for one in each])
        of_rounds = student_t(values.T)
        rounds = np.arange(1, values.shape[1] + 1)
        axes.errorbar(
            rounds,
            of_rounds.mean,
            of_rounds.half_width,
            marker=mark,
            ms=3,
            capsize=2,
            color=colour,
            label=name,
        )
        print(f"{name}: bias in round 1 {values[:, 0].mean():.2e}, in the last {values[:, -1].mean():.2e}")
        rows += [
            (name, one.seed, round_, value)
            for one, of_seed in zip(each, values, strict=True)
            for round_, value in enumerate(of_seed, start=1)
        ]
    axes.set_xlabel("round")
    axes.set_ylabel("bias of the product, relative")
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.legend(fontsize=7)
    axes.set_title(what.word, fontsize=8)
    save(figure, what.out / "bias")
    write(what.out / "bias.csv", ("method", "seed", "round", "product_bias"), rows)


def _draw_penalty(found: Mapping[str, Sequence[Training]], penalties: Sequence[float], what: Asked) -> None:
    """Draw last loss and mean bias over the penalty, for both forms."""
    figure, pair = plt.subplots(1, 2, figsize=(9.0, 3.4))
    rows = []
    for form, colour, mark in zip(FORMS, LINE_COLOURS, MARKS, strict=False):
        each = [found[_fair(form, penalty).name] for penalty in penalties]
        losses = np.array([[one.losses[-1] for one in of] for of in each])
        biases = np.array([[bias(one).mean() for one in of] for of in each])
        for axes, values in zip(pair, (losses, biases), strict=True):
            ends = student_t(values)
            places = np.arange(len(penalties)) + 0.08 * FORMS.index(form)
            axes.errorbar(
                places, ends.mean, ends.half_width, marker=mark, capsize=3, color=colour, label=form
            )
        for penalty, loss, bent in zip(penalties, losses, biases, strict=True):
            print(f"{form}, penalty {penalty:g}: loss {told(student_t(loss))}, bias {told(student_t(bent))}")
            rows += [
                (form, penalty, *row) for row in zip(what.seeds, loss.tolist(), bent.tolist(), strict=True)
            ]
    fedit = found["FedIT"]
    for axes, value in zip(
        pair,
        (np.mean([one.losses[-1] for one in fedit]), np.mean([bias(one).mean() for one in fedit])),
        strict=True,
    ):
        axes.axhline(float(value), ls=":", color="black", label="FedIT")
        axes.set_xticks(range(len(penalties)), [f"{penalty:g}" for penalty in penalties])
        axes.set_xlabel("penalty (lambda)")
    pair[0].set_ylabel("held-out loss at the end (nats)")
    pair[1].set_ylabel("bias, mean over rounds")
    pair[0].legend(fontsize=7)
    figure.suptitle(what.word, fontsize=9)
    save(figure, what.out / "penalty")
    write(what.out / "penalty.csv", ("form", "penalty", "seed", "eval_loss", "product_bias"), rows)


if __name__ == "__main__":
    as_command(main)
