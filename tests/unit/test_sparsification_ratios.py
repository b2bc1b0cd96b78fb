"""Allocators that say how much each client sends: their rounds, their long run, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest

from cosim.control.allocators import Allocator
from cosim.control.allocators.sparsifying import LINK
from cosim.control.closed_form import link_rates
from cosim.control.decision import Allocation
from cosim.control.solvers.sparsity.rounding import assign_subchannels
from cosim.control.state import CellState, Sparsity
from cosim.errors import AllocationError
from cosim.learning.amounts import WholeAmounts
from cosim.parts import make
from cosim.schemes.stages import whole_round
from cosim.testing.strategies import random_cell

NUM_CLIENTS, NUM_PAIRS, OVERHEAD = 6, 80, 145
PAIR_BITS = np.full(NUM_PAIRS, 32 * 2 * 768)
ALIKE = WholeAmounts(40_000_000, 60_000_000, int(PAIR_BITS.sum()), int(PAIR_BITS.sum()))
KINDS = ("tsfa", "round_deadline", "equal_bandwidth", "fixed_ratio")


def cell(seed: int = 1, energies: bool = True, **changes) -> CellState:
    """Return a federated cell of flat channels without fading; computing takes 0.2 to 0.5 s."""
    base = random_cell(seed, NUM_CLIENTS, 12, is_flat=True, has_sum_limit=False)
    link = base.links[LINK]
    bandwidths = np.full(12, 5e6 / 12)
    rng = np.random.default_rng(seed)
    speeds = 1e9 / rng.uniform(0.2, 0.5, NUM_CLIENTS)
    known = tuple(rng.exponential(size=NUM_PAIRS) ** 2 for _ in range(NUM_CLIENTS)) if energies else None
    return replace(
        base,
        links={LINK: replace(link, bandwidths_hz=bandwidths, gains=link.mean_gains)},
        client_flop_per_s=speeds,
        phases=lambda setting: whole_round([ALIKE] * NUM_CLIENTS, [10] * NUM_CLIENTS),
        local_steps=10,
        sparsity=Sparsity(int(PAIR_BITS.sum()), OVERHEAD, PAIR_BITS, known),
        weights=rng.dirichlet(np.full(NUM_CLIENTS, 5.0)),
        **changes,
    )


def faded(state: CellState, seed: int) -> CellState:
    """Return the same cell with each client's channel drawn again."""
    link = state.links[LINK]
    fading = np.random.default_rng(seed).exponential(size=(NUM_CLIENTS, 1))
    return replace(state, links={LINK: replace(link, gains=link.mean_gains * fading)})


def latency_s(state: CellState, allocation: Allocation) -> float:
    """Return how long a round lasts, overheads and all."""
    bits = OVERHEAD + np.array(allocation.sparsification_ratios) * PAIR_BITS.sum()
    computing = 1e9 / state.client_flop_per_s
    return float((computing + bits / link_rates(state.links[LINK], allocation.grants[LINK])).max())


def unsent(state: CellState, allocation: Allocation) -> float:
    """Return the energy that whole pairs leave unsent, weighted."""
    total = 0.0
    for client, ratio in enumerate(allocation.sparsification_ratios):
        number = int(np.floor(ratio * NUM_PAIRS * (1.0 + 1e-9)))
        energies = np.sort(state.sparsity.energies[client])[::-1]
        total += state.weights[client] * float(energies[number:].sum())
    return total


def middle_s(state: CellState) -> float:
    """Return a limit between computing alone and everything sent."""
    dense = make(Allocator, {"kind": "fixed_ratio", "latency_limit_s": 1e3, "sparsification_ratio": 1.0})
    begin = float((1e9 / state.client_flop_per_s).max())
    return begin + 0.4 * (latency_s(state, dense.allocate(state)) - begin)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bandwidth", ["continuous", "subchannels"])
@pytest.mark.parametrize("seed", range(4))
def test_a_round_of_the_average_channel_keeps_the_limit_with_whole_pairs(kind, bandwidth, seed):
    state = cell(seed)
    limit = middle_s(state)
    allocator = make(Allocator, {"kind": kind, "latency_limit_s": limit, "bandwidth": bandwidth})
    found = allocator.allocate(state)
    found.check(state, shares_in_time=False)
    slack = {"tsfa": 1.5, "fixed_ratio": 1.0 if bandwidth == "continuous" else 2.0}.get(kind, 1.0)
    assert latency_s(state, found) <= slack * limit * (1.0 + 1e-9)
    pairs = np.array(found.sparsification_ratios) * NUM_PAIRS
    assert pairs == pytest.approx(np.round(pairs), abs=1e-6)
    assert 0.0 < sum(found.sparsification_ratios) < NUM_CLIENTS


@pytest.mark.parametrize(
    "curve",
    ["exact", *(pytest.param(curve, marks=pytest.mark.slow) for curve in ("exponential", "generic"))],
)
def test_over_300_rounds_of_whole_pairs_the_mean_latency_is_the_limit(curve):
    state = cell(2)
    limit = middle_s(state)
    allocator = make(Allocator, {"kind": "tsfa", "latency_limit_s": limit, "curve": curve})
    latencies, memory, last = [], {}, None
    for round_ in range(1, 301):
        now = replace(faded(state, round_), round=round_, memory=memory, last_round_s=last)
        found = allocator.allocate(now)
        memory, last = found.memory, latency_s(now, found)
        latencies.append(last)
        if round_ == 1:
            first = memory["queue_s"]
            assert first == pytest.approx(limit)
    queue = max(memory["queue_s"] + last - limit, 0.0)
    assert np.mean(latencies) - limit <= (queue - first) / 300 + 1e-9
    assert np.mean(latencies) == pytest.approx(limit, rel=0.01)


def test_as_energies_decay_rounds_stay_even_only_relative_to_this_round():
    state = cell(2)
    limit = middle_s(state)
    latencies = {}
    for relative_to in ("this_round", "first_round"):
        allocator = make(Allocator, {"kind": "tsfa", "latency_limit_s": limit, "relative_to": relative_to})
        found, memory, last = [], {}, None
        for round_ in range(1, 81):
            energies = tuple(0.95**round_ * one for one in state.sparsity.energies)
            now = replace(faded(state, round_), round=round_, memory=memory, last_round_s=last)
            now = replace(now, sparsity=replace(state.sparsity, energies=energies))
            allocation = allocator.allocate(now)
            memory, last = allocation.memory, latency_s(now, allocation)
            found.append(last)
        latencies[relative_to] = np.array(found)
    assert latencies["this_round"].mean() == pytest.approx(limit, rel=0.01)
    swings = {key: float(np.abs(np.diff(one[40:])).mean()) for key, one in latencies.items()}
    assert swings["this_round"] < 0.7 * swings["first_round"]


def test_as_updates_shrink_only_a_share_of_the_rounds_own_energy_uses_the_limit_up():
    """Energies fall to a thousandth; measured by the first round's they are soon worth no time at all."""
    state, num_rounds = cell(2), 50
    limit, first = middle_s(state), state.sparsity.energies
    left = {}
    for relative_to in ("first_round", "this_round"):
        settings = {"kind": "tsfa", "latency_limit_s": limit, "relative_to": relative_to}
        allocator, total, memory, last = make(Allocator, settings), 0.0, {}, None
        for round_ in range(1, num_rounds + 1):
            shrunk = tuple(one * 10.0 ** (-3.0 * (round_ - 1) / num_rounds) for one in first)
            now = faded(replace(state, sparsity=replace(state.sparsity, energies=shrunk)), round_)
            now = replace(now, round=round_, memory=memory, last_round_s=last)
            found = allocator.allocate(now)
            memory, last = found.memory, latency_s(now, found)
            total += last
        left[relative_to] = num_rounds - total / limit
    assert abs(left["this_round"]) <= 0.01 * num_rounds
    assert left["first_round"] > 0.9  # in limits: what the queue began with, and more once it is empty


def test_with_energies_that_stay_it_is_all_one_whose_share_counts():
    state = cell(3)
    kept, own = (
        make(Allocator, {"kind": "tsfa", "latency_limit_s": middle_s(state), "relative_to": relative_to})
        for relative_to in ("first_round", "this_round")
    )
    begun = kept.allocate(state)
    later = replace(faded(state, 7), round=2, memory=begun.memory, last_round_s=middle_s(state))
    assert kept.allocate(later).sparsification_ratios == own.allocate(later).sparsification_ratios


def test_tsfa_leaves_less_unsent_than_every_baseline_at_the_same_mean_latency():
    state = cell(5)
    limit = middle_s(state)
    lost = dict.fromkeys(KINDS, 0.0)
    for kind in KINDS:
        allocator = make(Allocator, {"kind": kind, "latency_limit_s": limit})
        memory, last = {}, None
        for round_ in range(1, 41):
            now = replace(faded(state, round_), round=round_, memory=memory, last_round_s=last)
            found = allocator.allocate(now)
            memory, last = found.memory, latency_s(now, found)
            lost[kind] += unsent(now, found)
    assert lost["tsfa"] < lost["round_deadline"] < lost["equal_bandwidth"]


def test_without_the_warm_start_the_queue_begins_empty():
    state = cell(1)
    settings = {"kind": "tsfa", "latency_limit_s": middle_s(state), "warm_start": False}
    found = make(Allocator, settings).allocate(state)
    assert found.memory["queue_s"] == 0.0
    assert found.sparsification_ratios == pytest.approx([1.0] * NUM_CLIENTS)  # nothing to be paid for time


def test_the_queue_takes_in_what_the_last_round_measured():
    state = cell(1)
    limit = middle_s(state)
    allocator = make(Allocator, {"kind": "tsfa", "latency_limit_s": limit})
    memory = allocator.allocate(state).memory
    later = replace(state, round=2, memory=memory, last_round_s=limit + 0.25)
    assert allocator.allocate(later).memory["queue_s"] == pytest.approx(memory["queue_s"] + 0.25)
    later = replace(state, round=2, memory=memory, last_round_s=None)
    assert allocator.allocate(later).memory == memory


def test_without_training_all_curves_are_one_straight_line():
    state = cell(1, energies=False)
    found = make(Allocator, {"kind": "tsfa", "latency_limit_s": middle_s(state)}).allocate(state)
    assert found.memory["energy_scale"] == 0.0
    assert 0.0 < sum(found.sparsification_ratios) < NUM_CLIENTS


def test_turns_leave_more_unsent_than_the_joint_search():
    state = cell(3)
    limit = middle_s(state)
    found = {
        solver: make(
            Allocator, {"kind": "tsfa", "latency_limit_s": limit, "solver": solver, "penalty_weight": 10.0}
        ).allocate(state)
        for solver in ("joint", "alternating")
    }
    queue = found["joint"].memory["queue_s"]
    scale = found["joint"].memory["energy_scale"]
    totals = {
        solver: 10.0 * unsent(state, one) / scale + queue * latency_s(state, one)
        for solver, one in found.items()
    }
    assert totals["joint"] < totals["alternating"]


def test_no_round_is_longer_than_the_latest_end():
    state = cell(4)
    limit = middle_s(state)
    settings = {"kind": "tsfa", "latency_limit_s": limit, "max_round_s": 1.1 * limit, "warm_start": False}
    found = make(Allocator, settings).allocate(state)
    assert latency_s(state, found) <= 1.1 * limit * (1.0 + 1e-9)


def test_who_does_not_take_part_is_told_nothing_and_takes_no_room():
    state = cell(2)
    weights = state.weights.copy()
    weights[3] = 0.0
    speeds = state.client_flop_per_s.copy()
    speeds[3] = 1.0  # computing would take ages
    state = replace(state, weights=weights, client_flop_per_s=speeds)
    found = make(Allocator, {"kind": "tsfa", "latency_limit_s": 2.0}).allocate(state)
    assert found.sparsification_ratios[3] == 0.0
    assert found.grants[LINK][3].bandwidths_hz.sum() < 1e-6 * 5e6


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_below_the_computing_alone_is_refused_with_the_numbers(kind):
    state = cell(1)
    computing = 1e9 / state.client_flop_per_s
    allocator = make(Allocator, {"kind": kind, "latency_limit_s": 0.9 * float(computing.max())})
    with pytest.raises(AllocationError) as fault:
        allocator.allocate(state)
    assert f"client {int(computing.argmax())} computes for {computing.max():.6g} s" in str(fault.value)


def test_a_limit_below_the_mask_alone_is_refused():
    state = cell(1)
    state = replace(state, sparsity=replace(state.sparsity, overhead_bits=10**9))
    with pytest.raises(AllocationError, match="that say what is sent take"):
        make(Allocator, {"kind": "tsfa", "latency_limit_s": 2.0}).allocate(state)


def test_adapters_that_are_sent_whole_are_refused():
    with pytest.raises(AllocationError, match="take the scheme 'federated' with a codec"):
        make(Allocator, {"kind": "tsfa", "latency_limit_s": 2.0}).allocate(replace(cell(1), sparsity=None))


def test_a_fixed_ratio_without_room_for_a_pair_is_refused():
    with pytest.raises(AllocationError, match="no room for a pair"):
        make(
            Allocator,
            {"kind": "fixed_ratio", "latency_limit_s": 2.0, "sparsification_ratio": 0.5 / NUM_PAIRS},
        ).allocate(cell(1))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01])
def test_ratios_outside_the_unit_interval_are_refused(ratio):
    with pytest.raises(ValueError, match="sparsification_ratio"):
        make(Allocator, {"kind": "fixed_ratio", "latency_limit_s": 2.0, "sparsification_ratio": ratio})


def test_the_latest_end_may_not_lie_before_the_limit():
    with pytest.raises(ValueError, match="max_round_s 1 is below latency_limit_s 2"):
        make(Allocator, {"kind": "tsfa", "latency_limit_s": 2.0, "max_round_s": 1.0})


def test_dealt_subchannels_come_near_the_widths_wanted():
    rng = np.random.default_rng(3)
    wanted = rng.dirichlet(np.ones(5)) * 5e6
    assignment = assign_subchannels(wanted, np.full(100, 5e4), rng.exponential(size=(5, 100)))
    dealt = np.bincount(assignment, minlength=5) * 5e4
    assert (dealt > 0.0).all()
    assert np.abs(dealt - np.maximum(wanted, 5e4)).max() <= 2 * 5e4
