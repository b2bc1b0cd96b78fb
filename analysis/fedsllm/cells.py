"""Cells under paired seeds, and the total delay of every method on each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import Equal
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.allocators.nested import Nested
from cosim.control.allocators.random import Random
from cosim.control.closed_form import predict
from cosim.control.decision import Allocation
from cosim.control.knobs import Setting
from cosim.control.legs import legs_of
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.stages import Round
from cosim.control.state import CellState
from cosim.learning.amounts import SplitAmounts
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.schemes.stages import split_round
from cosim.units import Floats

Total = Callable[[CellState, RoundsTable], float]


@dataclass(frozen=True)
class Method:
    """One curve: its letter in the comparison, its name, and the total delay it reaches on a cell, s."""

    letter: str
    name: str
    total_s: Total
    is_drawn: bool = False


def state_of(scenario: Scenario, seed: int, changes: Mapping[str, Any] | None = None) -> CellState:
    """Return the cell of a seed, as an allocator meets it at the beginning."""
    changed = change(scenario, {**(changes or {}), "allocator": {"kind": "equal"}}, seed)
    return prepare(changed).decisions().state(0, 1)


def _given(rounds: RoundsTable) -> dict[str, Any]:
    return {"rounds_to_target": {rank: one.rounds for rank, one in rounds.ranks.items()}}


def total_s(state: CellState, allocation: Allocation, rounds: RoundsTable) -> float:
    """Return rounds to target at the decided rank times the delay of a round, s."""
    return rounds.at(allocation.lora_rank) * predict(state, allocation).round_s


def _by(make: Callable[[RoundsTable], Allocator]) -> Total:
    return lambda state, rounds: total_s(state, make(rounds).allocate(state), rounds)


def _random(rounds: RoundsTable) -> Allocator:
    drawn = ("subchannels", "power", "cut_layer", "lora_rank")
    return Random(randomise=drawn, lora_ranks=tuple(rounds.ranks))


def _uniform_total_s(state: CellState, rounds: RoundsTable) -> float:
    """Round robin and even power, cut in the middle, rank 8 or the nearest measured one."""
    rank = min(rounds.ranks, key=lambda one: abs(one - 8))
    middle = state.cut_layers[(len(state.cut_layers) - 1) // 2]
    return total_s(state, Equal().allocate(replace(state, cut_layer=middle, lora_rank=rank)), rounds)


def unsplit_total_s(state: CellState, rounds: RoundsTable) -> float:
    """Whole model and all adapters on every client; subchannels, power and rank are searched."""
    num_layers = state.cut_layers[-1] + 1

    def phases(setting: Setting) -> Round:
        split = {leg.name: leg for leg in legs_of(state.phases(replace(setting, cut=1)))}
        flop = np.sum([leg.flop + leg.server_flop / state.num_clients for leg in split.values()], axis=0)
        adapters = split["federated_uplink"].bits * num_layers
        each = [
            SplitAmounts(int(one), 0, 0, 0, 0, int(bits), int(bits))
            for one, bits in zip(flop, adapters, strict=True)
        ]
        return split_round(each, state.local_steps)

    links = {"federated_uplink": state.links["federated_uplink"]}
    unsplit = replace(state, links=links, phases=phases, cut_layer=1, cut_layers=(1,))
    plan = Nested(**_given(rounds)).allocate(unsplit).plan
    assert plan is not None
    return plan.total_s


METHODS = (
    Method("", "proposed", _by(lambda rounds: Fedsllm(**_given(rounds)))),
    Method("a", "all random", _by(_random), is_drawn=True),
    Method(
        "b",
        "random subchannels and power",
        _by(lambda rounds: Fedsllm(randomise=("subchannels", "power"), **_given(rounds))),
        is_drawn=True,
    ),
    Method(
        "c",
        "random cut",
        _by(lambda rounds: Fedsllm(randomise=("cut_layer",), **_given(rounds))),
        is_drawn=True,
    ),
    Method(
        "d",
        "random rank",
        _by(lambda rounds: Fedsllm(randomise=("lora_rank",), **_given(rounds))),
        is_drawn=True,
    ),
    Method("e", "equal shares, middle cut, rank 8", _uniform_total_s),
    Method("f", "federated without split", unsplit_total_s),
)
"""Baselines a to f of the method card, section 8; g, centralised, is a reference of learning alone."""


def totals_of(state: CellState, rounds: RoundsTable, num_draws: int) -> Floats:
    """Return the total delay of each method on a cell, s, shape (num_methods,); drawn ones by their mean."""
    found = []
    for method in METHODS:
        draws = range(num_draws if method.is_drawn else 1)
        each = [
            method.total_s(replace(state, stream=state.stream.child("draw", draw)), rounds) for draw in draws
        ]
        found.append(float(np.mean(each)))
    return np.array(found)


def mean_and_interval(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and half the 95 % confidence interval over the first axis."""
    from scipy.special import stdtrit

    count = values.shape[0]
    if count < 2:
        return values.mean(axis=0), np.full(values.shape[1:], np.nan)
    half = stdtrit(count - 1, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return values.mean(axis=0), np.asarray(half)
