"""The optimiser against cvxpy with Clarabel on the same cells, and how its cost grows."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench.ratio import Ratio
from cosim.control.allocators.exact import Exact
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.allocators.refined import Refined
from cosim.control.closed_form import Phase
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import control_power
from cosim.testing.strategies import random_cell
from tests.cells import random_phase
from tests.convex import ConvexPower

NUM_CLIENTS, NUM_SUBCHANNELS, MANY_CLIENTS, MANY_SUBCHANNELS = 5, 20, 100, 1000
ROUNDS = {1: 60.0, 2: 50.0, 4: 44.0, 8: 41.5, 16: 40.2}
REPEATS, AGREEMENT = 15, 1e-5


def measure() -> list[Ratio]:
    """Return the ratios of medians, both sides of each taken in turn in this process."""
    return [*_power_control(), _everything(), _growth(), _exact()]


def _power_control() -> list[Ratio]:
    ours, fresh, again = [], [], []
    for seed in range(REPEATS):
        phase = random_phase(seed, NUM_CLIENTS, NUM_SUBCHANNELS)
        owners = greedy_assignment(phase)
        # The first solve of a parametrised problem compiles it; only later ones are what it saves.
        kept = ConvexPower(phase, owners, is_parametrised=True)
        kept.solve()
        heavier = replace(phase, bits=1.1 * phase.bits)
        kept.load(heavier)
        seconds, found = _timed(lambda heavier=heavier, owners=owners: control_power(heavier, owners))
        ours.append(seconds)
        took, deadline = _timed(lambda heavier=heavier, owners=owners: ConvexPower(heavier, owners).solve())
        fresh.append(took)
        took, same = _timed(kept.solve)
        again.append(took)
        for other in (deadline, same):
            if abs(other / found.deadline_s - 1.0) > AGREEMENT:
                raise RuntimeError(f"seed {seed}: {other} s by cvxpy, {found.deadline_s} s here")
    size = f"({NUM_CLIENTS} x {NUM_SUBCHANNELS})"
    return [
        Ratio(
            f"cvxpy built and solved / power control {size}",
            median(fresh) / median(ours),
            5.0,
            "at least",
            _note(fresh, ours),
        ),
        Ratio(
            f"cvxpy solved again with new parameters / power control {size}",
            median(again) / median(ours),
            1.0,
            "at least",
            _note(again, ours),
        ),
    ]


def _everything() -> Ratio:
    """Return all of the optimiser over ten problems built and solved by cvxpy."""
    ours, rival = [], []
    allocator = Fedsllm(rounds_to_target=ROUNDS)
    for seed in range(REPEATS):
        state = random_cell(seed, NUM_CLIENTS, NUM_SUBCHANNELS, num_layers=12)
        phase = allocator.choices(state).phase("main_uplink", 0)
        owners = greedy_assignment(phase)
        ours.append(_timed(lambda state=state: allocator.allocate(state))[0])
        rival.append(_timed(lambda phase=phase, owners=owners: _ten_solves(phase, owners))[0])
    name = f"fedsllm, {NUM_CLIENTS} x {NUM_SUBCHANNELS} x 11 cuts x {len(ROUNDS)} ranks / 10 cvxpy problems"
    return Ratio(name, median(ours) / median(rival), 1.0, note=_note(ours, rival))


def _ten_solves(phase: Phase, owners: np.ndarray) -> None:
    for _ in range(10):
        ConvexPower(phase, owners).solve()


def _growth() -> Ratio:
    """Return what a client and subchannel cost in a large cell over what they cost in a small one."""
    small, large = [], []
    allocator = Fedsllm(rounds_to_target=ROUNDS)
    for seed in range(5):
        few = random_cell(seed, NUM_CLIENTS, NUM_SUBCHANNELS)
        many = random_cell(seed, MANY_CLIENTS, MANY_SUBCHANNELS)
        small.append(_timed(lambda few=few: allocator.allocate(few))[0] / (NUM_CLIENTS * NUM_SUBCHANNELS))
        large.append(
            _timed(lambda many=many: allocator.allocate(many))[0] / (MANY_CLIENTS * MANY_SUBCHANNELS)
        )
    name = (
        f"fedsllm per client and subchannel, {MANY_CLIENTS} x {MANY_SUBCHANNELS} / "
        f"{NUM_CLIENTS} x {NUM_SUBCHANNELS}"
    )
    return Ratio(name, median(large) / median(small), 1.0, note=_note(large, small))


def _exact() -> Ratio:
    """Return the search with a proof over the one without, for one cut layer and rank."""
    exact, refined, gaps = [], [], []
    candidate: dict[str, Any] = {"cut_layers": (6,), "lora_ranks": (4,)}
    for seed in range(5):
        state = random_cell(seed, NUM_CLIENTS, NUM_SUBCHANNELS)
        refined.append(_timed(lambda state=state: Refined(**candidate).allocate(state))[0])
        seconds, found = _timed(lambda state=state: Exact(**candidate, work_limit=100_000).allocate(state))
        exact.append(seconds)
        gaps.append(found.plan.gap_to_bound)
    name = f"exact / refined ({NUM_CLIENTS} x {NUM_SUBCHANNELS}, one cut and rank, at most 100 000 steps)"
    note = f"{_note(exact, refined)}; gap {median(gaps):.2%}, at worst {max(gaps):.2%}"
    return Ratio(name, median(exact) / median(refined), note=note)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, s, and what it gave."""
    begin = perf_counter()
    found = call()
    return perf_counter() - begin, found


def _note(one: list[float], other: list[float]) -> str:
    return f"{median(one) * 1e3:.4g} ms against {median(other) * 1e3:.4g} ms, medians of {len(one)}"
