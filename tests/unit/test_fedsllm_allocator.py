"""The searching allocators against each other, the bound, and every possible assignment."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.control.allocators.equal import Equal
from cosim.control.allocators.exact import Exact
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.allocators.fedsllm_2024 import Fedsllm2024
from cosim.control.allocators.nested import Nested
from cosim.control.allocators.random import Random
from cosim.control.allocators.refined import Refined
from cosim.control.allocators.searching import Searching
from cosim.control.bounding import with_bound
from cosim.control.closed_form import predict
from cosim.control.decision import Plan
from cosim.control.proving.bound import gap_to_bound, lower_bound_s
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import control_power
from cosim.control.solvers.rounds import MeasuredRounds, RoundsFit, RoundsTable
from cosim.control.state import CellState
from cosim.errors import AllocationError, ScenarioError
from cosim.parts import family, make
from cosim.radio.rate import RateModel
from cosim.radio.rate.truncated_shannon import TruncatedShannon
from cosim.testing.strategies import random_cell
from tests.cells import cells

ROUNDS = {1: 60.0, 2: 50.0, 4: 44.0, 8: 41.5, 16: 40.2}
SEARCHING = (Fedsllm, Nested, Refined, Exact)
ROUNDING = 1e-9


def _cell(seed: int) -> CellState:
    """Return a cell whose kind depends on the seed: all combinations come by."""
    rng = np.random.default_rng([seed, 3])
    num_clients = int(rng.integers(2, 7))
    return random_cell(
        seed,
        num_clients,
        int(rng.integers(num_clients, 21)),
        is_flat=bool(rng.integers(2)),
        has_even_widths=bool(rng.integers(2)),
        has_downlinks=bool(rng.integers(2)),
        has_sum_limit=bool(rng.integers(2)),
        num_layers=int(rng.choice([4, 12])),
    )


def _plan(allocator: Searching, state: CellState) -> Plan:
    plan = allocator.allocate(state).plan
    assert plan is not None
    return plan


def _never_rises(plan: Plan) -> bool:
    """Return whether the trace falls or stays, but for the last bits of solving the same again.

    Power is set by bisection, which ends within a few ulps of the deadline; a total adds a dozen terms to it.
    """
    few = 256 * np.finfo(float).eps
    return all(after <= before * (1.0 + few) for before, after in pairwise(plan.objective_trace_s))


def _shortfall(seed: int) -> tuple[float, float, float]:
    """Return how far `fedsllm` lies above `nested`, and both above the bound, as shares."""
    state = _cell(seed)
    fedsllm, nested = (kind(rounds_to_target=ROUNDS) for kind in (Fedsllm, Nested))
    bound = lower_bound_s(nested.choices(state))[0]
    total, reference = _plan(fedsllm, state).total_s, _plan(nested, state).total_s
    return total / reference - 1.0, total / bound - 1.0, reference / bound - 1.0


@pytest.mark.parametrize("seed", range(16))
def test_beginning_at_several_cuts_ends_within_one_percent_of_nested_and_above_the_bound(seed):
    above_nested, above_bound, nested_above_bound = _shortfall(seed)
    assert above_nested <= 0.01
    assert above_bound >= 0.0
    assert nested_above_bound >= 0.0


@pytest.mark.slow
def test_over_five_hundred_cells_fedsllm_stays_within_one_percent_of_nested_and_above_the_bound():
    found = np.array([_shortfall(seed) for seed in range(500)])
    worst = int(found[:, 0].argmax())
    assert found[worst, 0] <= 0.01, f"cell {worst} lies {found[worst, 0]:.2%} above nested"
    assert found[:, 1:].min() >= 0.0


@settings(deadline=None, max_examples=25)
@given(cells())
def test_the_trace_never_rises_and_ends_at_the_total(state):
    plan = _plan(Fedsllm(rounds_to_target=ROUNDS), state)
    assert _never_rises(plan)
    assert plan.objective_trace_s[-1] == pytest.approx(plan.total_s, rel=ROUNDING)


@settings(deadline=None, max_examples=25)
@given(cells())
def test_the_plan_is_the_closed_form_of_the_grants(state):
    allocation = Fedsllm(rounds_to_target=ROUNDS).allocate(state)
    assert allocation.plan is not None
    assert allocation.plan.round_s == predict(state, allocation).round_s
    assert allocation.plan.rounds_to_target == ROUNDS[allocation.lora_rank]
    assert allocation.plan.total_s == allocation.plan.round_s * allocation.plan.rounds_to_target


@settings(deadline=None, max_examples=25)
@given(cells(), st.sampled_from(sorted(ROUNDS)))
def test_at_fixed_rates_the_total_is_convex_in_the_cut_layer(state, rank):
    cuts = state.cut_layers
    choices = Choices.of(state, cuts, (rank,), RoundsTable.of(ROUNDS))
    rates = {}
    for link in choices.phases:
        phase = choices.phase(link, 0)
        rates[link] = control_power(phase, greedy_assignment(phase)).rates_bit_per_s
    totals = choices.total_s(choices.deadlines_at(rates))
    assert (np.diff(totals, n=2) >= -1e-12 * totals.max()).all()


@settings(deadline=None, max_examples=20)
@given(cells())
def test_a_grid_of_choices_costs_what_each_decision_alone_would(state):
    choices = Choices.of(state, state.cut_layers, tuple(ROUNDS), RoundsTable.of(ROUNDS))
    allocation = Equal().allocate(state)
    phases = choices.phases
    rates = {
        name: phases[name].rates(*_owners_and_powers(allocation.grants[name], phase.num_subchannels))
        for name, phase in phases.items()
    }
    totals = choices.total_s(choices.deadlines_at(rates))
    for at, total in enumerate(totals.tolist()):
        rank = int(choices.lora_ranks[at])
        same = replace(allocation, cut_layer=int(choices.cut_layers[at]), lora_rank=rank)
        assert total == pytest.approx(ROUNDS[rank] * predict(state, same).round_s, rel=ROUNDING)


def _owners_and_powers(grants, num_subchannels):
    assignment, tx_power_w = np.zeros(num_subchannels, dtype=int), np.zeros(num_subchannels)
    for client, grant in enumerate(grants):
        assignment[grant.subchannels] = client
        tx_power_w[grant.subchannels] = grant.tx_power_w
    return assignment, tx_power_w


@pytest.mark.parametrize("seed", range(6))
def test_baseline_b_draws_subchannels_and_power_as_the_random_allocator_does(seed):
    state = _cell(seed)
    drawn = Fedsllm(rounds_to_target=ROUNDS, randomise=("subchannels", "power")).allocate(state)
    chance = Random(randomise=("subchannels", "power")).allocate(state)
    for name, grants in chance.grants.items():
        for mine, theirs in zip(drawn.grants[name], grants, strict=True):
            np.testing.assert_array_equal(mine.subchannels, theirs.subchannels)
            np.testing.assert_array_equal(mine.tx_power_w, theirs.tx_power_w)


@pytest.mark.parametrize("seed", range(6))
def test_baseline_b_still_chooses_the_best_cut_and_rank_for_what_was_drawn(seed):
    state = _cell(seed)
    drawn = Fedsllm(rounds_to_target=ROUNDS, randomise=("subchannels", "power")).allocate(state)
    every = [
        ROUNDS[rank] * predict(state, replace(drawn, cut_layer=cut, lora_rank=rank)).round_s
        for cut, rank in product(state.cut_layers, ROUNDS)
    ]
    assert drawn.plan is not None
    assert drawn.plan.total_s == pytest.approx(min(every), rel=ROUNDING)


@pytest.mark.parametrize("seed", range(6))
def test_baselines_c_and_d_are_fedsllm_with_what_was_drawn_as_the_only_candidate(seed):
    state = _cell(seed)
    chance = Random(randomise=("cut_layer", "lora_rank"), lora_ranks=tuple(ROUNDS)).allocate(state)
    c = _plan(Fedsllm(rounds_to_target=ROUNDS, randomise=("cut_layer",)), state)
    d = _plan(Fedsllm(rounds_to_target=ROUNDS, randomise=("lora_rank",)), state)
    assert c == _plan(Fedsllm(rounds_to_target=ROUNDS, cut_layers=(chance.cut_layer,)), state)
    assert d == _plan(Fedsllm(rounds_to_target=ROUNDS, lora_ranks=(chance.lora_rank,)), state)
    bound = lower_bound_s(Fedsllm(rounds_to_target=ROUNDS).choices(state))[0]
    assert min(c.total_s, d.total_s) >= bound


@pytest.mark.parametrize("seed", range(12))
def test_refined_is_never_worse_than_nested_or_fedsllm_on_selective_gains(seed):
    state = random_cell(seed, 4, 12, has_downlinks=seed % 2 == 1, num_layers=4)
    refined = _plan(Refined(rounds_to_target=ROUNDS), state)
    assert refined.total_s <= _plan(Nested(rounds_to_target=ROUNDS), state).total_s * (1.0 + ROUNDING)
    assert refined.total_s <= _plan(Fedsllm(rounds_to_target=ROUNDS), state).total_s * (1.0 + ROUNDING)
    assert _never_rises(refined)


@settings(deadline=None, max_examples=8)
@given(cells(max_clients=3, max_subchannels=6))
def test_no_allocator_beats_the_bound(state):
    for allocator in (Equal(), Random(), Fedsllm2024(), Fedsllm2024(is_optimised=False)):
        assert gap_to_bound(state, allocator.allocate(state)) >= 0.0
    table = RoundsTable.of(ROUNDS)
    choices = Choices.of(state, state.cut_layers, table.ranks, table)
    for kind in (Fedsllm, Nested, Refined):
        allocator = kind(rounds_to_target=ROUNDS)
        allocation = allocator.allocate(state)
        assert gap_to_bound(state, allocation, choices, table) >= 0.0
        assert allocation.plan is not None
        plan = with_bound(state, allocation, allocation.plan, allocator)
        assert plan.gap_to_bound is not None
        assert plan.gap_to_bound >= 0.0


@pytest.mark.parametrize("seed", range(6))
def test_exact_is_beaten_by_no_other_allocator(seed):
    state = random_cell(seed, 2, 4, is_flat=seed == 0, has_even_widths=seed % 2 == 0, num_layers=4)
    exact = Exact(rounds_to_target=ROUNDS)
    best = _plan(exact, state)
    assert "stopped_by" not in best.notes
    assert best.gap_to_bound is not None
    assert 0.0 <= best.gap_to_bound <= exact.gap * (1.0 + ROUNDING)
    table = RoundsTable.of(ROUNDS)
    for other in (Equal(), Random(), Fedsllm2024(), *(kind(rounds_to_target=ROUNDS) for kind in SEARCHING)):
        allocation = other.allocate(state)
        total = table.at(allocation.lora_rank) * predict(state, allocation).round_s
        assert best.total_s <= total * (1.0 + ROUNDING)


@pytest.mark.parametrize("seed", range(6))
def test_exact_finds_the_best_of_every_possible_deal_within_its_gap(seed):
    state = random_cell(seed, 2, 4, has_even_widths=seed % 2 == 0, has_sum_limit=seed < 4, num_layers=3)
    ranks = {1: 60.0, 4: 44.0}
    exact = Exact(rounds_to_target=ranks)
    choices = exact.choices(state)
    deadlines = {
        link: np.array([_best_deadline_s(choices.phase(link, at)) for at in range(len(choices))])
        for link in choices.phases
    }
    optimum = float(choices.total_s(deadlines).min())
    plan = _plan(exact, state)
    assert optimum * (1.0 - ROUNDING) <= plan.total_s <= optimum * (1.0 + exact.gap)
    assert plan.lower_bound_s is not None
    assert plan.lower_bound_s <= optimum * (1.0 + ROUNDING)
    assert lower_bound_s(choices)[0] <= optimum


def _best_deadline_s(phase):
    deals = product(range(phase.num_clients), repeat=phase.num_subchannels)
    return min(
        control_power(phase, np.array(deal)).deadline_s
        for deal in deals
        if len(set(deal)) == phase.num_clients
    )


@pytest.mark.parametrize("kind", SEARCHING)
@pytest.mark.parametrize("name", ["model", "data"])
def test_a_table_of_another_model_or_other_data_is_refused(tmp_path, kind, name):
    path = tmp_path / "rounds.json"
    measured = {rank: MeasuredRounds(rounds=rounds) for rank, rounds in ROUNDS.items()}
    path.write_text(RoundsTable(model="m" * 64, data="d" * 64, ranks=measured).model_dump_json())
    state = replace(random_cell(1, 2, 4, num_layers=3), model_hash="m" * 64, data_hash="d" * 64)
    allocator = kind(rounds_table=path)
    assert allocator.allocate(state).lora_rank in ROUNDS
    with pytest.raises(AllocationError, match=rf"another {name} \({name[0] * 12}, this run has f+\)"):
        allocator.allocate(replace(state, **{f"{name}_hash": "f" * 64}))


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"ranks": {"0": {"rounds": 3}}}', '{"ranks": {"1": {"rounds": 0}}}']
)
def test_a_file_that_is_no_table_is_refused_by_its_path(tmp_path, text):
    path = tmp_path / "rounds.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"rounds\.json is no table of rounds"):
        Fedsllm(rounds_table=path).allocate(random_cell(1, 2, 4))


def test_a_table_that_is_not_there_is_refused_by_its_path(tmp_path):
    with pytest.raises(ScenarioError, match=r"nowhere\.json cannot be read"):
        Fedsllm(rounds_table=tmp_path / "nowhere.json").allocate(random_cell(1, 2, 4))


def test_a_rank_nobody_measured_is_refused_with_those_measured(tmp_path):
    path = tmp_path / "rounds.json"
    path.write_text(RoundsTable.of({1: 60.0, 4: 44.0}).model_dump_json())
    allocator = Fedsllm(rounds_table=path, lora_ranks=(2,))
    with pytest.raises(AllocationError, match=r"LoRA rank 2 are not known; measured are 1, 4"):
        allocator.allocate(random_cell(1, 2, 4))
    with pytest.raises(ValidationError, match=r"no entry for the lora_ranks \[2\]"):
        Fedsllm(rounds_to_target={1: 60.0, 4: 44.0}, lora_ranks=(2,))
    with pytest.raises(ValidationError, match=r"cannot be compared without the rounds"):
        Fedsllm(lora_ranks=(1, 2))


def test_the_fit_answers_between_measured_ranks_only():
    fit = RoundsFit(e0=20.0, e1=40.0, beta=0.5)
    table = RoundsTable.of({1: 61.0, 16: 29.0}).model_copy(update={"fit": fit})
    assert table.at(1) == 61.0
    assert table.at(4) == 40.0
    with pytest.raises(AllocationError, match="LoRA rank 32"):
        table.at(32)


def test_a_settled_cut_and_rank_are_left_alone():
    state = replace(random_cell(2, 3, 9), is_settled=True, cut_layer=7, lora_rank=4)
    for kind in SEARCHING:
        allocation = kind(rounds_to_target=ROUNDS, **({"node_limit": 50} if kind is Exact else {})).allocate(
            state
        )
        assert (allocation.cut_layer, allocation.lora_rank) == (7, 4)


def test_a_cut_layer_the_model_does_not_have_is_refused():
    with pytest.raises(AllocationError, match=r"cut layer 12 is a candidate; it must be 1 to 11"):
        Fedsllm(cut_layers=(3, 12)).allocate(random_cell(1, 2, 4))


OTHER_RATES = [
    pytest.param(example | {"kind": kind}, id=f"{kind}-{number}")
    for kind, part in family(RateModel).items()
    if kind != "shannon"
    for number, example in enumerate(part.examples)
    if kind != "truncated_shannon" or "min_snr_db" in example
]


def with_rate(state, rate):
    return replace(state, links={name: replace(one, rate=rate) for name, one in state.links.items()})


def test_under_a_cap_what_is_proven_best_is_not_beaten_by_the_search_and_the_bound_by_neither():
    free = random_cell(4, 2, 6)
    state = with_rate(free, TruncatedShannon(attenuation=0.75, max_bit_per_s_per_hz=3.0))
    search, proven = Fedsllm().allocate(state), Exact().allocate(state)
    total, best = (predict(state, one).round_s for one in (search, proven))
    assert best <= total * (1.0 + 1e-9)
    assert search.plan.round_s == pytest.approx(total, rel=1e-9)
    gaps = gap_to_bound(state, search), gap_to_bound(state, proven)
    assert 0.0 <= gaps[1] <= gaps[0]
    assert total > predict(free, Fedsllm().allocate(free)).round_s


def test_where_all_carry_the_cap_the_bound_is_tight():
    """Four subchannels alike for two clients alike, all full: no assignment is faster."""
    state = random_cell(2, 2, 4, is_flat=True, has_even_widths=True)
    state = with_rate(state, TruncatedShannon(max_bit_per_s_per_hz=1e-3))
    assert 0.0 <= gap_to_bound(state, Fedsllm().allocate(state)) < 1e-2


@pytest.mark.parametrize(
    "allocator", [*(kind() for kind in SEARCHING), Fedsllm2024()], ids=lambda one: one.kind
)
@pytest.mark.parametrize("rate", OTHER_RATES)
def test_a_rate_that_is_not_shannons_is_refused_by_its_link(allocator, rate):
    state = random_cell(1, 2, 4)
    told = rf"main_uplink: .*the rate model 'shannon'.*, not '{rate['kind']}'; .*radio.assumed_rate"
    with pytest.raises(AllocationError, match=told):
        allocator.allocate(with_rate(state, make(RateModel, rate)))


@pytest.mark.parametrize("kind", SEARCHING)
def test_fewer_subchannels_than_clients_are_refused(kind):
    with pytest.raises(AllocationError, match=r"5 clients .* 4 subchannels"):
        kind().allocate(random_cell(1, 5, 4))


@pytest.mark.parametrize("kind", SEARCHING)
def test_a_client_that_may_not_send_is_named_with_the_watts_it_lacks(kind):
    state = random_cell(1, 3, 6)
    link = state.links["main_uplink"]
    mute = replace(link, max_tx_power_w=link.max_tx_power_w * np.array([1.0, 0.0, 1.0]))
    with pytest.raises(AllocationError, match=r"main_uplink: .*client 1 .* W are missing"):
        kind().allocate(replace(state, links={**state.links, "main_uplink": mute}))
