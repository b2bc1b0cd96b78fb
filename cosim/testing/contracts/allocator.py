"""What every allocator keeps, run over each part's examples on random cells."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from cosim.control.allocators import Allocator
from cosim.control.closed_form import predict
from cosim.control.decision import Allocation
from cosim.control.knobs import PRUNING_RATIO, Setting, pruning_ratio
from cosim.control.proving import bound
from cosim.control.stages import CLIENT, Barrier, Chain, Compute, Round, served
from cosim.control.state import CellState, Sparsity
from cosim.learning.amounts import WholeAmounts
from cosim.parts import family, make
from cosim.schemes.stages import upload, whole_round
from cosim.testing.selection import under_test
from cosim.testing.strategies import random_cell

NEEDS_A_TABLE = "its table is written for one cell"
EXAMPLES = [
    pytest.param(
        example | {"kind": kind},
        id=f"{kind}-{number}",
        marks=pytest.mark.skip(reason=NEEDS_A_TABLE) if part.is_for_one_cell else (),
    )
    for kind, part in under_test(Allocator).items()
    for number, example in enumerate(part.examples)
]
NUM_CELLS = 8
every_example = pytest.mark.parametrize("example", EXAMPLES)


def every_cell(test: Callable[[dict, int], None]) -> Callable[[dict], None]:
    """Let one test go over all cells: to begin a test takes longer than to look at a decision."""

    def of_every_cell(example: dict) -> None:
        for seed in range(NUM_CELLS):
            test(example, seed)

    return of_every_cell


@cache
def _cell(seed: int) -> CellState:
    """Return a small cell; the bits of the seed are its kind, so all sorts come by."""
    num_clients = 1 + seed % 3
    return random_cell(
        seed,
        num_clients,
        num_clients + seed % 4,
        is_flat=bool(seed & 1),
        has_even_widths=bool(seed & 2),
        has_downlinks=bool(seed & 4),
        has_sum_limit=seed % 3 != 1,
        num_layers=2 + seed % 5,
    )


def _state(example: dict, cell: CellState) -> CellState:
    """Return a cell whose clients train all blocks, for those who decide how much is trained or sent."""
    part = make(Allocator, example)
    if PRUNING_RATIO in part.sets_knobs:
        knobs = (*cell.knobs, pruning_ratio(0.1, 0.75, per_client=True))
        return replace(cell, knobs=knobs, phases=partial(_pruned_round, cell))
    if not part.sets_sparsification_ratios:
        return cell
    rng = np.random.default_rng(cell.num_clients)
    pair_bits = np.full(24, 32 * 8 * 64)
    energies = tuple(rng.exponential(size=24) for _ in range(cell.num_clients))
    sparsity = Sparsity(int(pair_bits.sum()), 88, pair_bits, energies)
    one = cell.phases.amounts(cell.cut_layer, cell.lora_rank)
    whole = WholeAmounts(
        one.client_forward_flop, one.client_backward_flop, one.adapter_bits, one.adapter_download_bits
    )
    round_ = whole_round([whole] * cell.num_clients, [cell.local_steps] * cell.num_clients)
    return replace(cell, sparsity=sparsity, phases=lambda setting: round_)


def _pruned_round(cell: CellState, setting: Setting) -> Round:
    """Return a round of one barrier in which clients leave out a share of what they compute and send."""
    one = cell.phases.amounts(cell.cut_layer, cell.lora_rank)

    def chain(client: int) -> Chain:
        kept = 1.0 - setting.of(PRUNING_RATIO, client, 0.0)
        flop, bits = int(kept * one.client_forward_flop), 1000 + int(kept * one.adapter_bits)
        computed = Compute("client_forward_backward", CLIENT, flop, cell.local_steps)
        return computed, upload("adapter_upload", "federated_uplink", bits)

    return (Barrier(tuple(map(chain, range(cell.num_clients)))),)


_DECIDED: dict[tuple[str, int], Allocation] = {}


def _decision(example: dict, seed: int) -> Allocation:
    """Return what the part decides on a cell, asked once for all tests: a search may take its time."""
    key = (repr(example), seed)
    if key not in _DECIDED:
        _DECIDED[key] = make(Allocator, example).allocate(_state(example, _cell(seed)))
    return _DECIDED[key]


@every_example
@every_cell
def test_a_decision_keeps_every_limit_of_the_cell(example, seed):
    shares_in_time = make(Allocator, example).shares_in_time
    _decision(example, seed).check(_state(example, _cell(seed)), shares_in_time=shares_in_time)
    assert _decision(example, seed).knobs.keys() <= make(Allocator, example).sets_knobs


@every_example
@every_cell
def test_each_subchannel_has_at_most_one_owner_unless_turns_are_taken(example, seed):
    if make(Allocator, example).shares_in_time:
        return
    for name, grants in _decision(example, seed).grants.items():
        owned = np.concatenate([grant.subchannels for grant in grants])
        assert len(owned) == len(set(owned.tolist())), name


@every_example
@every_cell
def test_every_client_that_takes_part_can_send_on_every_link_that_counts(example, seed):
    state, allocation = _cell(seed), _decision(example, seed)
    assert set(allocation.grants) == set(state.links)
    round_ = state.phases(allocation.setting)
    for link, grants in allocation.grants.items():
        for client in served(round_, link):
            assert len(grants[client].subchannels)
            assert grants[client].total_tx_power_w > 0.0
        assert all((np.diff(grant.subchannels) > 0).all() for grant in grants)
    assert np.isfinite(predict(state, allocation).round_s)


@every_example
@every_cell
def test_the_same_state_gets_the_same_decision_and_stays_as_it_was(example, seed):
    state, first = _state(example, _cell(seed)), _decision(example, seed)
    before = {name: link.gains.copy() for name, link in state.links.items()}
    bound._find_prices.cache_clear()  # all of it is decided again
    again = make(Allocator, example).allocate(state)
    assert (first.cut_layer, first.lora_rank, first.plan) == (again.cut_layer, again.lora_rank, again.plan)
    for name, grants in first.grants.items():
        np.testing.assert_array_equal(state.links[name].gains, before[name])
        for one, other in zip(grants, again.grants[name], strict=True):
            np.testing.assert_array_equal(one.subchannels, other.subchannels)
            np.testing.assert_array_equal(one.tx_power_w, other.tx_power_w)


@every_example
@every_cell
def test_what_a_plan_foresees_is_the_closed_form_of_its_grants(example, seed):
    allocation = _decision(example, seed)
    if allocation.plan is None:
        return
    plan = allocation.plan
    assert plan.round_s == pytest.approx(predict(_cell(seed), allocation).round_s, rel=1e-12)
    assert plan.total_s == pytest.approx(plan.rounds_to_target * plan.round_s, rel=1e-12)
    assert plan.lower_bound_s is None or plan.lower_bound_s <= plan.total_s


@every_example
def test_a_cell_of_the_usual_size_is_served_within_its_limits(example):
    state = random_cell(11, 5, 20, has_even_widths=False, has_downlinks=True, num_layers=4)
    state = _state(example, state)
    if "work_limit" in family(Allocator)[example["kind"]].model_fields:
        example = example | {"work_limit": 20_000}
    allocator = make(Allocator, example)
    allocator.allocate(state).check(state, shares_in_time=allocator.shares_in_time)
