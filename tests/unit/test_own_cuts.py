"""A cut layer of its own for each client: what it costs, and who chooses it."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.allocators.equal import Equal
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.allocators.fedsllm_2024 import Fedsllm2024
from cosim.control.allocators.nested import Nested
from cosim.control.bounding import with_bound
from cosim.control.closed_form import lasts_s, link_rates, plan_of, predict
from cosim.control.knobs import Setting
from cosim.control.legs import legs_of
from cosim.control.proving.bound import lower_bound_s
from cosim.control.solvers.barriers import Barriers
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.rounds import RoundsTable
from cosim.errors import AllocationError
from cosim.schemes.stages import split_round
from cosim.testing.strategies import random_cell
from tests.cells import cells

ROUNDS = {1: 60.0, 4: 44.0}
SEARCHING = (Nested, Fedsllm)


def drawn_cuts(state, seed):
    return tuple(np.random.default_rng(seed).choice(state.cut_layers, state.num_clients).tolist())


@settings(deadline=None, max_examples=25)
@given(cells(), st.integers(0, 99))
def test_each_client_has_the_load_of_its_own_cut_and_the_server_the_sum(state, seed):
    cuts = drawn_cuts(state, seed)
    legs = {leg.name: leg for leg in legs_of(state.phases(Setting(cuts, 4)))}
    alone = [state.phases.amounts(cut, 4) for cut in cuts]
    assert legs["main_uplink"].flop.tolist() == [one.client_forward_flop for one in alone]
    assert legs["main_downlink"].flop.tolist() == [one.client_backward_flop for one in alone]
    assert legs["federated_uplink"].bits.tolist() == [one.adapter_bits for one in alone]
    assert legs["main_uplink"].server_flop == sum(one.server_flop for one in alone)


@settings(deadline=None, max_examples=25)
@given(cells())
def test_the_same_cut_for_each_costs_what_a_common_one_does(state):
    for cut in state.cut_layers:
        assert state.phases(Setting(cut, 4)) == state.phases(Setting((cut,) * state.num_clients, 4))


@settings(deadline=None, max_examples=25)
@given(cells(), st.integers(0, 99))
def test_a_round_is_its_three_barriers_with_every_client_at_its_own_cut(state, seed):
    cuts = drawn_cuts(state, seed)
    allocation = replace(Equal().allocate(state), cut_layer=min(cuts), client_cut_layers=cuts)
    rates = {name: link_rates(link, allocation.grants[name]) for name, link in state.links.items()}
    speeds, upload, back, adapters = state.client_flop_per_s, [], [], [[], []]
    server_flop = 0
    for client, cut in enumerate(cuts):
        one = state.phases.amounts(cut, state.lora_rank)
        server_flop += one.server_flop

        def air(link, bits, client=client):
            return bits / rates[link][client] if link in rates else 0.0

        upload.append(one.client_forward_flop / speeds[client] + air("main_uplink", one.activation_bits))
        back.append(one.client_backward_flop / speeds[client] + air("main_downlink", one.gradient_bits))
        adapters[0].append(air("federated_uplink", one.adapter_bits))
        adapters[1].append(air("federated_downlink", one.adapter_bits))
    step_s = max(upload) + server_flop / state.main_server_flop_per_s + max(back)
    expected = state.local_steps * step_s + sum(map(max, adapters))
    assert predict(state, allocation).round_s == pytest.approx(expected, rel=1e-12)
    assert plan_of(state, allocation).round_s == predict(state, allocation).round_s
    choices = Choices.of(state, (cuts,), (state.lora_rank,), RoundsTable.of({state.lora_rank: 1.0}))
    assert choices.total_s(choices.deadlines_at(rates))[0] == pytest.approx(expected, rel=1e-12)
    assert lower_bound_s(choices)[0] <= expected * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("allocator", SEARCHING)
def test_cuts_of_their_own_are_never_slower_than_the_best_common_one(allocator, seed):
    state = uneven_cell(seed)
    common = allocator(rounds_to_target=ROUNDS).allocate(state)
    apart = allocator(rounds_to_target=ROUNDS, cut_per_client=True).allocate(state)
    apart.check(state, shares_in_time=False)
    assert apart.plan.total_s <= common.plan.total_s
    assert apart.plan.total_s == pytest.approx(
        ROUNDS[apart.lora_rank] * predict(state, apart).round_s, rel=1e-12
    )
    trace = apart.plan.objective_trace_s
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(trace))
    plan = with_bound(state, apart, apart.plan, allocator(rounds_to_target=ROUNDS, cut_per_client=True))
    assert plan.gap_to_bound >= -1e-9


def uneven_cell(seed):
    """Return a cell whose clients differ in speed by orders of magnitude, where one cut cannot suit all."""
    state = random_cell(seed, 4, 8, num_layers=6)
    return replace(state, client_flop_per_s=state.client_flop_per_s * np.logspace(-1.0, 1.0, 4))


def test_where_speeds_differ_widely_cuts_of_their_own_win():
    wins = []
    for seed in range(8):
        state = uneven_cell(seed)
        common = Nested(rounds_to_target=ROUNDS).allocate(state).plan.total_s
        apart = Nested(rounds_to_target=ROUNDS, cut_per_client=True).allocate(state)
        wins.append(common / apart.plan.total_s - 1.0)
        if apart.client_cut_layers is not None:
            assert apart.cut_layer == min(apart.client_cut_layers)
            assert len(set(apart.client_cut_layers)) > 1
    assert max(wins) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_descent_comes_close_to_every_choice_of_cuts_tried_out(seed):
    state = replace(uneven_cell(seed), cut_layers=(1, 2, 3))
    rounds = RoundsTable.of({4: 1.0})
    choices = Choices.of(state, tuple(product((1, 2, 3), repeat=4)), (4,), rounds)
    barriers = Barriers(choices)
    best = min(barriers.total_s(at, barriers.solve(at)) for at in range(len(choices)))
    found = Nested(rounds_to_target={4: 1.0}, cut_layers=(1, 2, 3), cut_per_client=True).allocate(state)
    assert best * (1 - 1e-9) <= found.plan.total_s <= best * 1.05


@pytest.mark.parametrize("allocator", [*SEARCHING, Fedsllm2024])
def test_given_cuts_are_kept_and_paid_for(allocator):
    cuts = (1, 3, 2, 1)
    state = replace(uneven_cell(1), client_cut_layers=cuts, cut_layer=1)
    made = allocator() if allocator is Fedsllm2024 else allocator(cut_per_client=True)
    allocation = made.allocate(state)
    allocation.check(state, shares_in_time=False)
    assert allocation.client_cut_layers == cuts
    assert allocation.plan.round_s == predict(state, allocation).round_s
    assert with_bound(state, allocation, allocation.plan, made).gap_to_bound >= -1e-9


def test_a_scheme_that_cuts_all_alike_is_asked_for_nothing_else():
    state = replace(uneven_cell(2), may_cut_apart=False)
    apart = Nested(rounds_to_target=ROUNDS, cut_per_client=True).allocate(state)
    assert apart.client_cut_layers is None
    assert apart.plan == Nested(rounds_to_target=ROUNDS).allocate(state).plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_cut_layers": (1, 2)}, "give one for each client"),
        ({"client_cut_layers": (2, 2, 3, 3), "cut_layer": 1}, "the least of them"),
        ({"client_cut_layers": (1, 9, 1, 1)}, "the cut layer 9 was chosen for client 1; it must be 1 to 5"),
    ],
)
def test_cuts_that_cannot_be_are_refused(changes, message):
    state = uneven_cell(3)
    allocation = replace(Equal().allocate(state), **{"cut_layer": 1, **changes})
    with pytest.raises(AllocationError, match=message):
        allocation.check(state, shares_in_time=False)


def test_cuts_apart_are_refused_where_the_scheme_cuts_alike():
    state = replace(uneven_cell(3), may_cut_apart=False)
    allocation = replace(Equal().allocate(state), cut_layer=1, client_cut_layers=(1, 2, 1, 1))
    with pytest.raises(AllocationError, match="take a scheme that can: 'split_federated'"):
        allocation.check(state, shares_in_time=False)


def test_a_rate_of_zero_for_nothing_to_send_takes_no_time():
    state = uneven_cell(4)
    cuts = (1, 2, 2, 2)
    each = [state.phases.amounts(cut, 4)._replace(adapter_bits=0 if cut == 1 else 8) for cut in cuts]
    rates = {"federated_uplink": np.where(np.arange(4) == 0, 0.0, 1e6)}
    assert np.isfinite(lasts_s(split_round(each, state.local_steps), state, rates))
