"""Draw held-out loss against bits and against simulated time on a narrow and a wide uplink: PNG, PDF, CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

from analysis.domains import client_losses
from analysis.drawing import Progress, as_command, parsed, parser, save, write
from analysis.soft_tsfa.trainings import Method, Training, train
from cosim.graph.store import Store, default_store
from cosim.learning.embedded import FOLDER
from cosim.record.folder import Record
from cosim.report.span_style import LINE_COLOURS
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t

SCENARIO = Path(__file__).parents[2] / "scenarios" / "ferret.toml"
_DENSE = {"scheme.update": [], "scheme.server_optimizer": {"kind": "none"}}
_LORA = {
    "trainable": None,
    "lora": {"rank": 8, "target_modules": ["all-linear"]},
    "training.optimizer": {"kind": "adamw", "learning_rate": 3e-3},
}
METHODS = (
    Method("Ferret", {}),
    Method("Ferret, fixed directions", {"scheme.update.0.seeds": "fixed"}),
    Method("full FedAvg", _DENSE),
    Method("LoRA FedAvg", {**_DENSE, **_LORA}),
)
UPLINKS: dict[str, dict[str, float]] = {
    "narrow": {},
    "wide": {"radio.federated_uplink.bandwidth_hz": 100e6, "radio.federated_downlink.bandwidth_hz": 100e6},
}
_BASE = {
    "model_type": "gpt2",
    "n_layer": 3,
    "n_embd": 48,
    "n_head": 3,
    "n_positions": 64,
    "vocab_size": 1024,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def main() -> None:
    """Make the base, every training, figure and table."""
    options = parser("ferret", __doc__, SCENARIO, "two seeds, 8 rounds, to try it")
    told = parsed(options)
    scenario = load(told.scenario)
    rounds = 8 if told.quick else scenario.scheme.num_rounds
    seeds = range(scenario.seed, scenario.seed + told.seeds)
    progress = Progress(bases=(1, 20.0), trainings=(len(METHODS) * told.seeds, 2.5 * rounds))
    base = small_base(scenario, told.out / "base", steps=100 if told.quick else 300)
    progress.done("bases", "small base trained")
    scenario = change(scenario, {"model.base": base, "scheme.num_rounds": rounds})
    word = (
        f"{'quick: ' if told.quick else ''}{told.seeds} seeds, {rounds} rounds, a base of 0.14 M parameters"
    )
    store = Store(told.store or default_store())
    found: dict[str, dict[str, list[Training]]] = {uplink: {} for uplink in UPLINKS}
    for method in METHODS:
        for seed in seeds:
            for uplink, wider in UPLINKS.items():  # the second one computes no value
                cell = change(scenario, wider)
                training = train(cell, method, seed, told.out / "runs" / uplink, store)
                found[uplink].setdefault(method.name, []).append(training)
            loss = found["narrow"][method.name][-1].losses[-1]
            progress.done("trainings", f"{method.name}, seed {seed}: held-out loss {loss:.3f}")
    _curves(found, word, told.out)
    _table(scenario, found, told.out)


def small_base(scenario: Scenario, folder: Path, steps: int) -> Mapping[str, Any]:
    """Return a base of 0.14 million parameters that has learned to write texts of the scenario's domains."""
    changes = {
        "scheme": {"kind": "centralized", "num_rounds": 1, "local_steps": steps},
        "clients.count": 1,
        "data.partition": {"kind": "iid"},
        "data.source.direction": "write",
        "data.source.seed": 7,
        "training.evaluate_clients": False,
        "training.optimizer": {"kind": "adamw", "learning_rate": 3e-3},
        "model.base": {"kind": "random", "config": _BASE, "tokenizer_path": str(FOLDER / "tokenizer.json")},
    }
    if not (folder / "manifest.json").is_file() or Record.open(folder).status != "complete":
        run(change(scenario, {**changes, "trainable": {"kind": "full"}}), folder)
    return {"kind": "folder", "path": str((folder / "model").resolve())}


def _curves(found: Mapping[str, Mapping[str, Sequence[Training]]], word: str, out: Path) -> None:
    """Mean held-out loss with 95 % intervals along bits, and along time on either uplink."""
    panels = (
        ("uploads, Mbit of all clients", "narrow", "uplink_mbit"),
        ("simulated time, s (180 kHz uplink)", "narrow", "seconds"),
        ("simulated time, s (100 MHz either way)", "wide", "seconds"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.4), sharey=True)
    for axis, (label, uplink, along) in zip(axes, panels, strict=True):
        for number, (name, trainings) in enumerate(found[uplink].items()):
            places = np.mean([getattr(one, along) for one in trainings], axis=0)[1:]
            band = student_t(np.array([one.losses[1:] for one in trainings]).T)
            axis.plot(places, band.mean, marker="os^D"[number], ms=3, color=LINE_COLOURS[number], label=name)
            axis.fill_between(places, band.low, band.high, alpha=0.2, color=LINE_COLOURS[number], lw=0)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
    axes[0].set_ylabel("held-out loss (mean and 95 % CI)")
    axes[0].legend(fontsize=7)
    figure.suptitle(word, fontsize=8)
    save(figure, out / "loss")
    rows = [
        (uplink, name, one.seed, *row)
        for uplink, methods in found.items()
        for name, trainings in methods.items()
        for one in trainings
        for row in zip(one.rounds, one.uplink_mbit, one.seconds, one.losses, strict=True)
    ]
    heading = ("uplink", "method", "seed", "round", "uplink_mbit", "seconds", "eval_loss")
    write(out / "loss.csv", heading, rows)


def _table(scenario: Scenario, found: Mapping[str, Mapping[str, Sequence[Training]]], out: Path) -> None:
    """Last losses, bits, time of a round, FLOP of a client by kind of work, and its peak memory."""
    rows = []
    reference = np.array([one.losses[-1] for one in found["narrow"]["full FedAvg"]])
    for method in METHODS:
        trainings = found["narrow"][method.name]
        ends = np.array([one.losses[-1] for one in trainings])
        mean, excess = student_t(ends), student_t(ends - reference)
        worst = float(np.mean([client_losses(one).max() for one in trainings]))
        prepared = prepare(change(scenario, method.changes))
        amounts = prepared.scenario.scheme, prepared.task
        memory = amounts[0].memory_bytes(prepared.task, prepared.task.shape.num_layers, 8)["client"]
        flop = _client_flop(out / "runs" / "narrow", method)
        lasted = [float(np.mean(found[uplink][method.name][0].round_s[1:])) for uplink in UPLINKS]
        rows.append(
            (
                method.name,
                float(mean.mean),
                float(mean.half_width),
                worst,
                float(trainings[0].uplink_mbit[-1]),
                *lasted,
                memory / 1e6,
                *flop,
            )
        )
        print(
            f"{method.name}: loss {float(mean.mean):.3f} +- {float(mean.half_width):.3f} "
            f"(over full FedAvg {float(excess.mean):+.3f} +- {float(excess.half_width):.3f}), worst domain "
            f"{worst:.3f}; {rows[-1][4]:.2f} Mbit up, {lasted[0]:.3g} and {lasted[1]:.3g} s a round; client: "
            f"{memory / 1e6:.1f} MB, GFLOP a round {', '.join(f'{one / 1e9:.2f}' for one in flop)} "
            "(local steps, encoding, rebuilding)"
        )
    heading = (
        *(
            "method",
            "loss",
            "half_width",
            "worst_client_loss",
            "uplink_mbit",
            "round_s_narrow",
            "round_s_wide",
        ),
        *("client_memory_mb", "local_flop", "encode_flop", "rebuild_flop"),
    )
    write(out / "table.csv", heading, rows)


def _client_flop(runs: Path, method: Method) -> list[float]:
    """Return the FLOP of the first client in the first round, by kind of work."""
    folder = next(runs.glob(f"{method.name.replace(' ', '_')}-*"))
    spans = Record.open(folder).frame("spans")
    first = spans[(spans["round"] == 1) & (spans.actor == "client-0")]
    names = ("client_forward_backward", "encode_update", "rebuild_update")
    return [float(first[first.name == name].flop.sum()) for name in names]


if __name__ == "__main__":
    as_command(main)
