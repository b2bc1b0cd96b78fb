"""How far each search is from the best possible; what the descent does; what a constant rate gets wrong."""

from collections.abc import Sequence
from dataclasses import replace
from time import process_time
from typing import Any, get_args

import numpy as np

from analysis.fedsllm.cells import state_of, total_s
from cosim.control.allocators.exact import Exact
from cosim.control.allocators.fedsllm import Fedsllm, Start
from cosim.control.allocators.nested import Nested
from cosim.control.allocators.refined import Refined
from cosim.control.closed_form import link_rates, predict
from cosim.control.proving.bound import lower_bound_s
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.state import CellState
from cosim.radio.rate.constant_bandwidth import ConstantBandwidth
from cosim.scenario.settings import Scenario
from cosim.units import Floats

SMALL = {
    "clients.count": 3,
    "radio.main_uplink.num_subchannels": 8,
    "radio.federated_uplink.num_subchannels": 8,
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1.0},
}
"""A cell small enough to be solved exactly, whose gains differ between subchannels."""


def gaps(
    scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int], changes: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return a row for each search and cell: total, gap to the bound and to the best known, time."""
    given = {rank: one.rounds for rank, one in rounds.ranks.items()}
    searches = (Fedsllm, Nested, Refined, Exact)
    rows = []
    for seed in seeds:
        state = state_of(scenario, seed, changes)
        bound_s = lower_bound_s(Nested(rounds_to_target=given).choices(state))[0]
        found = {}
        for search in searches:
            began = process_time()
            extra = {"work_limit": 200_000} if search is Exact else {}
            plan = search(rounds_to_target=given, **extra).allocate(state).plan
            assert plan is not None
            found[search] = (plan, process_time() - began)
        proven = found[Exact][0].lower_bound_s
        assert proven is not None
        for search, (plan, took_s) in found.items():
            rows.append(
                {
                    "seed": seed,
                    "allocator": search.model_fields["kind"].default,
                    "total_s": plan.total_s,
                    "gap_to_relaxation": plan.total_s / bound_s - 1.0,
                    "gap_to_proven": plan.total_s / max(proven, bound_s) - 1.0,
                    "cpu_s": took_s,
                    "stopped_by": plan.notes.get("stopped_by", ""),
                }
            )
    return rows


def descents(
    scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int]
) -> list[tuple[str, int, tuple[float, ...], float]]:
    """Return (start, seed, trace of totals in s, total of the nested search in s) of each descent."""
    given = {rank: one.rounds for rank, one in rounds.ranks.items()}
    found = []
    for seed in seeds:
        state = state_of(scenario, seed)
        nested = Nested(rounds_to_target=given).allocate(state).plan
        assert nested is not None
        for start in get_args(Start)[:3]:
            plan = Fedsllm(rounds_to_target=given, starts=(start,)).allocate(state).plan
            assert plan is not None
            found.append((start, seed, plan.objective_trace_s, nested.total_s))
    return found


def constant_errors(scenario: Scenario, rounds: RoundsTable, seeds: Sequence[int]) -> tuple[Floats, float]:
    """Return how far the constant-bandwidth formula is off on each cell, as a share, and its constant, bit/s.

    Both price the same decision, that of ``fedsllm``. The constant is the mean
    rate all clients of all cells have on the main uplink in truth, which is more
    than its users know.
    """
    given = {rank: one.rounds for rank, one in rounds.ranks.items()}
    states = [state_of(scenario, seed) for seed in seeds]
    decisions = [Fedsllm(rounds_to_target=given).allocate(state) for state in states]
    rates = [
        link_rates(state.links["main_uplink"], one.grants["main_uplink"])
        for state, one in zip(states, decisions, strict=True)
    ]
    constant = float(np.mean(rates))
    flat = ConstantBandwidth(rate_bit_per_s=constant)
    errors = [
        total_s(_with_rate(state, flat), one, rounds) / total_s(state, one, rounds) - 1.0
        for state, one in zip(states, decisions, strict=True)
    ]
    assert all(predict(state, one).round_s > 0.0 for state, one in zip(states, decisions, strict=True))
    return np.array(errors), constant


def _with_rate(state: CellState, rate: ConstantBandwidth) -> CellState:
    return replace(state, links={name: replace(link, rate=rate) for name, link in state.links.items()})
