"""Pruning ratios and bandwidth: the closed form, the KKT conditions, and a general solver beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cosim.control.solvers.pruning import Pruning
from cosim.control.solvers.sparsity.flat_rate import flat_rate
from cosim.rng import stream


def drawn(seed, num_clients=6):
    """Return a cell in which no client is like another."""
    rng = stream(seed, "pruning").generator()

    def around(middle, factor=3.0):
        return middle * factor ** rng.uniform(-1.0, 1.0, size=num_clients)

    weights = around(1.0)
    return Pruning(
        snr_hz=around(3e7, 30.0),
        bandwidth_hz=5e6,
        fixed_s=around(0.05),
        fixed_bits=around(2e4),
        prunable_s=around(0.4),
        prunable_bits=around(2e6),
        weights=weights / weights.sum(),
        least=0.1,
        most=0.8,
    )


def lasts(one, shared):
    """Return when each client is done."""
    kept = 1.0 - shared.ratios
    rates = flat_rate(one.snr_hz, shared.bandwidth_hz)
    return one.fixed_s + kept * one.prunable_s + (one.fixed_bits + kept * one.prunable_bits) / rates


def limit_of(one, share):
    """Return a limit between the least that can be had and the least that leaves out no more than it must."""
    shortest, longest = one.shortest_s(one.most), one.shortest_s(one.least)
    return shortest + share * (longest - shortest)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.02, 0.98))
def test_the_limit_and_the_band_are_kept_and_every_interior_client_gains_alike(seed, share):
    one = drawn(seed)
    limit = limit_of(one, share)
    found = one.least_left_out(limit)
    assert found.bandwidth_hz.sum() <= one.bandwidth_hz * (1 + 1e-9)
    assert (lasts(one, found) <= limit * (1 + 1e-9)).all()
    assert ((found.ratios >= one.least) & (found.ratios <= one.most)).all()
    inside = (found.ratios > one.least + 1e-6) & (found.ratios < one.most - 1e-6)
    gains = one.gains_per_hz(found.bandwidth_hz, limit)
    assert np.ptp(gains[inside]) <= 1e-6 * gains[inside].max() if inside.any() else True
    price = gains[inside].mean() if inside.any() else 0.0
    # who leaves out the most would gain less, who leaves out the least is given no more than it needs
    assert (gains[found.ratios >= one.most - 1e-6] <= price * (1 + 1e-6)).all() or not inside.any()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_general_solver_finds_no_better(seed, share):
    one = drawn(seed)
    limit = limit_of(one, share)
    ours = one.least_left_out(limit)
    needs, most = (
        np.minimum(one.needed_hz(limit, np.full(6, ratio)) / one.bandwidth_hz, 1.0)
        for ratio in (one.most, one.least)
    )

    def left_out(shares):
        return float(one.weights @ one.ratios(shares * one.bandwidth_hz, limit))

    start = np.minimum(needs + (1.0 - needs.sum()) / 6, most)
    found = minimize(
        left_out,
        start,
        method="SLSQP",
        bounds=list(zip(needs, most, strict=True)),
        constraints={"type": "ineq", "fun": lambda shares: 1.0 - shares.sum()},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert float(one.weights @ ours.ratios) == pytest.approx(found.fun, rel=2e-5)
    assert float(one.weights @ ours.ratios) <= found.fun + 1e-9


def test_the_ratio_of_a_channel_is_the_closed_form():
    one = drawn(4)
    widths, limit = np.full(6, one.bandwidth_hz / 6), 1.0
    ratios = one.ratios(widths, limit)
    inside = ratios > one.least
    assert inside.any()
    done = lasts(one, type(one.shortest(0.5))(widths, ratios))
    assert done[inside] == pytest.approx(limit, rel=1e-12)
    assert (done[~inside] <= limit * (1 + 1e-12)).all()


def test_the_shortest_round_has_all_clients_done_together():
    one = drawn(5)
    shared = one.shortest(0.3)
    assert lasts(one, shared) == pytest.approx(one.shortest_s(0.3), rel=1e-6)
    equal = np.full(6, one.bandwidth_hz / 6)
    assert one.shortest_s(0.3) < one.finish_s(equal, 0.3)


def test_one_ratio_for_all_is_the_least_that_keeps_the_limit():
    one = drawn(6)
    limit = limit_of(one, 0.4)
    shared = one.alike(limit)
    assert np.ptp(shared.ratios) == 0.0
    assert one.is_met(limit, shared.ratios[0])
    assert not one.is_met(limit, shared.ratios[0] - 1e-6)
    assert one.weights @ one.least_left_out(limit).ratios <= shared.ratios[0] + 1e-9


def test_a_limit_nobody_can_meet_is_named_with_the_least_that_can_be_had():
    one = drawn(7)
    least = one.shortest_s(one.most)
    with pytest.raises(ValueError, match=f"the least is {least:.6g} s"):
        one.least_left_out(0.99 * least)
    assert (one.least_left_out(1.0001 * least).ratios > 0.7).all()


def test_what_nothing_can_be_left_out_of_keeps_all_or_is_too_slow():
    zero, half = np.zeros(2), np.full(2, 0.5)
    still = Pruning(np.full(2, 1e7), 2e6, np.full(2, 0.1), np.full(2, 1e5), zero, zero, half, 0.0, 0.5)
    assert (still.least_left_out(1.0).ratios == 0.0).all()
    assert not still.is_met(0.05, 0.5)
