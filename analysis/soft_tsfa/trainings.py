"""Runs of one method over paired seeds, and what is read off them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import resume, run
from cosim.scenario.load import change, run_hash
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S, Floats


@dataclass(frozen=True)
class Method:
    """One curve: its name, and the settings by which it differs from the scenario."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Training:
    """What one run of one seed came to; the arrays have an entry for each evaluation.

    Attributes
    ----------
    rounds, seconds, uplink_mbit
        Rounds, simulated time and Mbit of all uploads so far.
    losses
        Held-out loss.
    round_s
        How long each round lasted, s, shape (num_rounds,).
    metrics
        Every other metric by its name: rows of (round, actor, value).
    """

    seed: int
    rounds: Floats
    seconds: Floats
    uplink_mbit: Floats
    losses: Floats
    round_s: Floats
    metrics: Mapping[str, list[tuple[int, str, float]]]

    def first_reached(self, target: float, along: Floats) -> float:
        """Return where the loss first comes down to a target, along Mbit or seconds; infinite if never."""
        reached = np.flatnonzero(self.losses <= target)
        if not len(reached):
            return float("inf")
        at = int(reached[0])
        if at == 0:
            return float(along[0])
        share = (self.losses[at - 1] - target) / (self.losses[at - 1] - self.losses[at])
        return float(along[at - 1] + share * (along[at] - along[at - 1]))


def train(scenario: Scenario, method: Method, seed: int, folder: Path, store: Store | None) -> Training:
    """Run a method on a seed; one that is complete in ``folder`` is read, one that was stopped goes on."""
    changed = change(scenario, method.changes, seed, source=f"method {method.name!r}")
    there = folder / f"{method.name.replace(' ', '_')}-{seed}-{run_hash(changed)[:8]}"
    if not (there / "manifest.json").is_file():
        run(changed, there, store=store)
    elif Record.open(there).status != "complete":
        resume(there, store=store)
    return read(Record.open(there), seed)


def read(record: Record, seed: int) -> Training:
    """Return what a record says of a training."""
    metrics: dict[str, list[tuple[int, str, float]]] = {}
    evaluations = []
    for row in record.metrics.to_pylist():
        if row["name"] == "eval_loss":
            evaluations.append((row["round"], row["time_ns"], row["value"]))
        else:
            metrics.setdefault(row["name"], []).append((row["round"], row["actor"], row["value"]))
    spans = record.spans.select(["name", "round", "bits"]).to_pydict()
    names, of_round, bits = (np.array(spans[name]) for name in ("name", "round", "bits"))
    played = record.rounds.to_pydict()
    sent = np.zeros(max(played["round"]) + 1)
    np.add.at(sent, of_round[names == "adapter_upload"], bits[names == "adapter_upload"])
    lasted_ns = np.array(played["end_ns"]) - np.array(played["start_ns"])
    rounds, times_ns, losses = (np.array(column) for column in zip(*sorted(evaluations), strict=True))
    return Training(
        seed=seed,
        rounds=rounds.astype(float),
        seconds=times_ns / NS_PER_S,
        uplink_mbit=np.cumsum(sent)[rounds] / 1e6,
        losses=losses,
        round_s=lasted_ns / NS_PER_S,
        metrics=metrics,
    )
