"""Matching of clients and channels against a training step, and the accountant against a round."""

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from bench.ratio import Ratio
from cosim.control.allocators.matched import Matched
from cosim.control.reports import Outcome
from cosim.control.state import CellState
from cosim.learning import privacy
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario

SIZE, ROUNDS, STEPS = 100, 12, 40
SCENARIO = Path(__file__).parents[1] / "scenarios" / "private_low_latency.toml"
MANY: dict[str, Any] = {
    "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1},
    "clients.count": SIZE,
    "data.source.num_train": 2 * SIZE,
    "radio.federated_uplink": {"num_subchannels": SIZE, "bandwidth_hz": 20e6},
    "allocator": {"kind": "matched", "num_clients": SIZE},
}


def measure() -> list[Ratio]:
    """Return CPU time of a decision over that of a step, and of an account over that of a round."""
    step_s = _step_s()
    found = []
    for matching in ("exact", "greedy"):
        decision_s = _decision_s(Matched(num_clients=SIZE, max_delay_s=1.0, matching=matching))
        found.append(
            Ratio(
                f"UCB and {matching} matching, {SIZE} x {SIZE}, / a training step",
                decision_s / step_s,
                0.25,
                note=f"{1e3 * decision_s:.2f} against {1e3 * step_s:.1f} ms",
            )
        )
    round_s = _round_s()
    for kind in ("rdp", "pld"):
        account_s = _account_s(kind)
        found.append(
            Ratio(
                f"account of a round's releases by {kind} / the round",
                account_s / round_s,
                0.01,
                note=f"{1e3 * account_s:.3f} against {1e3 * round_s:.0f} ms",
            )
        )
    return found


def _state() -> CellState:
    return prepare(change(Scenario(name="many"), MANY)).decisions().state(0, 1)


def _decision_s(allocator: Matched) -> float:
    """Return the median CPU time of a decision, once pairs have been tried."""
    state, rng, taken = _state(), np.random.default_rng(1), []
    for round_ in range(1, ROUNDS + 1):
        state = replace(state, round=round_)
        began_s = process_time()
        decided = allocator.allocate(state)
        taken.append(process_time() - began_s)
        counts = rng.integers(1, 9, (SIZE, SIZE)).astype(float)
        arrays = {**decided.arrays, "counts": counts, "rewards": rng.random((SIZE, SIZE))}
        outcomes = tuple(Outcome(airtime_s=one) for one in rng.random(SIZE))
        state = replace(state, arrays=arrays, reported={"delay": (0.1,) * SIZE}, outcomes=outcomes)
    return median(taken[1:])


def _trained_s(scenario: Scenario) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began_s = process_time()
        run(scenario, Path(folder) / "run")
        return process_time() - began_s


def _step_s() -> float:
    """Return the CPU time of a local step of the embedded model, from runs that differ by some steps."""
    changes = {
        "scheme": {"kind": "federated", "num_rounds": 1, "evaluate_every": 9},
        "clients.count": 1,
        "data.source.num_test": 1,
    }
    scenario = change(Scenario(name="steps"), changes)
    few, many = (change(scenario, {"scheme.local_steps": count}) for count in (1, STEPS + 1))
    _trained_s(few)  # loads libraries
    return (_trained_s(many) - _trained_s(few)) / STEPS


def _round_s() -> float:
    """Return the CPU time of a round of the scenario that comes along."""
    scenario = change(load(SCENARIO), {"scheme.evaluate_every": 99, "data.source.num_test": 1})
    one, four = (change(scenario, {"scheme.num_rounds": count}) for count in (1, 4))
    _trained_s(one)  # makes the texts
    return (_trained_s(four) - _trained_s(one)) / 3


def _account_s(kind: str) -> float:
    """Return the CPU time a round of the scenario spends on its account, the libraries being there."""
    scenario = change(load(SCENARIO), {"scheme.privacy.accountant": kind})
    scheme, task = scenario.scheme, prepare(scenario).task
    privacy._accountant.cache_clear()
    began_s = process_time()
    ledger = scheme.ledger(task)
    assert ledger is not None
    for step in range(scheme.num_rounds):
        able = [one for one in range(task.num_clients) if ledger.affords(one, range(step, step + 1))]
        for client in able[: task.num_clients // 2]:
            ledger.release(client, range(step, step + 1))
    return (process_time() - began_s) / scheme.num_rounds
