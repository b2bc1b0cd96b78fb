"""Greedy subchannels: against every possible assignment where the theory says greedy is optimal."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.closed_form import Phase
from cosim.control.solvers.greedy import greedy_assignment
from cosim.errors import AllocationError
from cosim.units import Ints
from tests.cells import phases, random_phase


def _reference_finish_s(phase: Phase, assignment: Ints) -> float:
    """Return when the last client is done at the reference powers spread evenly, s."""
    powers = np.minimum(phase.max_tx_power_w, phase.max_total_tx_power_w / phase.num_clients)
    width = np.bincount(assignment, weights=phase.bandwidths_hz, minlength=phase.num_clients)
    if not width.all():
        return np.inf
    tx_power_w = (powers / width)[assignment] * phase.bandwidths_hz
    return float(phase.finish_s(phase.rates(assignment, tx_power_w)).max())


def _best_s(phase: Phase) -> float:
    deals = product(range(phase.num_clients), repeat=phase.num_subchannels)
    return min(_reference_finish_s(phase, np.array(deal)) for deal in deals)


@pytest.mark.parametrize(
    ("seed", "num_clients", "num_subchannels"),
    [(seed, *size) for seed in range(8) for size in [(1, 4), (2, 8), (3, 6), (4, 5)]]
    + [(0, 3, 8), (1, 4, 6)],
)
def test_with_equal_gains_and_widths_no_deal_is_better_than_the_greedy_one(
    seed, num_clients, num_subchannels
):
    phase = random_phase(seed, num_clients, num_subchannels, is_flat=True)
    phase = replace(phase, bandwidths_hz=np.full(num_subchannels, 50e3))
    greedy = _reference_finish_s(phase, greedy_assignment(phase))
    assert greedy == pytest.approx(_best_s(phase), rel=1e-12)


@pytest.mark.slow
def test_with_equal_gains_and_widths_no_assignment_of_eight_among_four_is_better():
    phase = replace(random_phase(2, 4, 8, is_flat=True), bandwidths_hz=np.full(8, 50e3))
    assert _reference_finish_s(phase, greedy_assignment(phase)) == pytest.approx(_best_s(phase), rel=1e-12)


@settings(deadline=None)
@given(phases())
def test_every_subchannel_has_an_owner_and_every_client_a_subchannel(phase):
    assignment = greedy_assignment(phase)
    assert assignment.shape == (phase.num_subchannels,)
    assert set(assignment.tolist()) == set(range(phase.num_clients))


@settings(deadline=None)
@given(phases(), st.integers(2, 5))
def test_times_scaled_together_leave_the_owners_alone(phase, power):
    scale = 2.0**power
    slower = replace(phase, compute_s=phase.compute_s * scale, bits=phase.bits * scale)
    np.testing.assert_array_equal(greedy_assignment(slower), greedy_assignment(phase))


@settings(deadline=None)
@given(phases())
def test_clients_in_another_order_own_the_same(phase):
    turned = replace(
        phase,
        compute_s=phase.compute_s[::-1],
        bits=phase.bits[::-1],
        gains=phase.gains[::-1],
        max_tx_power_w=phase.max_tx_power_w[::-1],
    )
    np.testing.assert_array_equal(phase.num_clients - 1 - greedy_assignment(turned), greedy_assignment(phase))


def test_the_widest_free_subchannel_is_taken_first_where_gains_are_equal():
    phase = replace(
        random_phase(1, 1, 5, is_flat=True), bandwidths_hz=np.array([1.0, 3.0, 2.0, 5.0, 4.0]) * 1e4
    )
    alone = replace(
        phase,
        compute_s=np.zeros(2),
        bits=np.array([1e7, 1.0]),
        gains=np.repeat(phase.gains, 2, axis=0),
        max_tx_power_w=np.full(2, 0.2),
        max_total_tx_power_w=np.inf,
    )
    assert greedy_assignment(alone).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("num_clients", "num_subchannels"), [(2, 1), (5, 4)])
def test_fewer_subchannels_than_clients_are_refused(num_clients, num_subchannels):
    phase = random_phase(0, num_clients, num_subchannels)
    with pytest.raises(AllocationError, match=rf"{num_clients} clients .* {num_subchannels} subchannels"):
        greedy_assignment(phase)


def test_a_client_with_nothing_to_send_takes_one_subchannel_only():
    phase = random_phase(4, 3, 9)
    phase = replace(phase, bits=phase.bits * np.array([1.0, 0.0, 1.0]), compute_s=np.zeros(3))
    counts = np.bincount(greedy_assignment(phase), minlength=3)
    assert counts[1] == 1
