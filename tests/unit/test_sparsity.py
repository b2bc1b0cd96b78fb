"""TSFA's second stage: a flat channel turned round, the band shared by a price, the best end of a round."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosim.control.solvers.sparsity.alternating import alternate, filled
from cosim.control.solvers.sparsity.client_demand import efficiency_for, rate_bend
from cosim.control.solvers.sparsity.curves import Curves, Exponential, Stepped
from cosim.control.solvers.sparsity.deadline import best_round, next_queue_s, round_by
from cosim.control.solvers.sparsity.descent import lows
from cosim.control.solvers.sparsity.flat_rate import (
    bandwidth_for_rate,
    flat_rate,
    rate_slope,
)
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.solvers.sparsity.uplink import Uplink
from tests.uplinks import middle_s, random_exponential, random_pairs, random_stepped, random_uplink

FEW = 16 * float(np.finfo(float).eps)
"""A share of a few ulps: a logarithm or an exponential may be off by up to four, and each is taken twice."""

KINDS = ("exponential", "stepped", "generic")


def curves_of(kind: str, seed: int, uplink: Uplink) -> Curves:
    if kind == "exponential":
        return random_exponential(seed, uplink)[0]
    if kind == "stepped":
        return random_stepped(seed, uplink)[0]
    weights = np.random.default_rng(seed).dirichlet(np.full(uplink.num_clients, 5.0))
    return Stepped.generic(uplink.dense_bits, np.ones(uplink.num_clients), weights)


@given(st.floats(1e3, 1e12), st.floats(-9.0, 9.0))
@settings(deadline=None)
def test_the_bandwidth_for_a_rate_carries_that_rate(snr_hz: float, decades: float) -> None:
    width = np.array([snr_hz * 10.0**decades])
    rate = flat_rate(np.array([snr_hz]), width)
    found = bandwidth_for_rate(np.array([snr_hz]), rate)
    assert flat_rate(np.array([snr_hz]), found) == pytest.approx(rate, rel=4 * FEW)
    # Near the most a client can ever have, a rounding of the rate is a world of bandwidth.
    assert found == pytest.approx(width, rel=1e-12 + FEW * 10.0**decades)


def test_lamberts_function_is_turned_round_to_fifty_digits() -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        for share in (1e-12, 1e-3, 0.3, 0.9, 0.99, 0.9901, 0.999999):
            z = mpmath.mpf(share)
            exact = 1 / (-mpmath.lambertw(-z * mpmath.exp(-z), -1).real / z - 1)
            found = bandwidth_for_rate(np.array([1.0]), np.array([share / math.log(2.0)]))[0]
            assert found == pytest.approx(float(exact), rel=FEW / (1.0 - share))


@given(st.floats(-9.0, 2.0))
def test_the_efficiency_for_a_share_has_that_share(decades: float) -> None:
    efficiency = 10.0**decades
    found = efficiency_for(efficiency / math.expm1(efficiency))
    assert found == pytest.approx(efficiency, rel=1e-12 + FEW / efficiency)
    assert efficiency_for(1.0) == 0.0
    assert efficiency_for(0.0) == math.inf


@given(st.floats(-6.0, 2.0))
def test_what_a_hertz_adds_is_the_same_by_efficiency_as_by_bandwidth(decades: float) -> None:
    snr = np.expm1(np.array([10.0**decades]))
    by_width = rate_slope(snr, np.ones(1)) * math.log(2.0)
    assert rate_bend(10.0**decades) == pytest.approx(by_width[0], rel=1e-10)


@given(st.floats(-4.0, 4.0))
@settings(deadline=None)
def test_slopes_are_what_rates_rise_by(decades: float) -> None:
    snr, width, step = np.array([1e6]), np.array([1e6 * 10.0**decades]), 1e-4
    rise = flat_rate(snr, width * (1 + step)) - flat_rate(snr, width * (1 - step))
    assert rate_slope(snr, width) == pytest.approx(rise / (2 * step * width), rel=1e-5)


def test_no_bandwidth_carries_more_than_the_limit_and_none_is_needed_for_nothing() -> None:
    snr = np.array([3e6])
    assert bandwidth_for_rate(snr, np.array([3e6 / math.log(2.0)])) == np.inf
    assert bandwidth_for_rate(snr, np.array([0.0])) == 0.0
    assert flat_rate(snr, np.array([0.0])) == 0.0


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_at_the_earliest_deadline_the_whole_band_is_needed(seed: int) -> None:
    uplink = random_uplink(seed)
    sent = np.random.default_rng(seed).uniform(1e3, 3e6, uplink.num_clients)
    deadline = uplink.earliest_s(sent)
    assert uplink.needed_hz(sent, deadline).sum() == pytest.approx(uplink.bandwidth_hz, rel=1e-10)
    widths = uplink.fair_widths_hz(sent)
    assert uplink.finish_s(sent, widths) == pytest.approx(np.full(uplink.num_clients, deadline), rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_the_shares_are_those_of_a_general_solver(seed: int) -> None:
    uplink = random_uplink(seed)
    curves, oracle = random_exponential(seed, uplink)
    for share in (0.1, 0.4, 0.8):
        deadline = middle_s(uplink, share)
        found = share_band(uplink, curves, np.array([deadline])).unsent[0]
        # the general solver stops when a step gains nothing: where its roundings begin to decide, near 1e-11
        assert found == pytest.approx(oracle.by(deadline), rel=1e-9)


@pytest.mark.parametrize("seed", range(1, 7))
def test_the_best_round_is_that_of_a_general_solver(seed: int) -> None:
    uplink = random_uplink(seed)
    curves, oracle = random_exponential(seed, uplink)
    start = middle_s(uplink)
    weight = start / -share_band(uplink, curves, np.array([start])).slope_per_s[0]
    found = best_round(uplink, curves, weight=weight, queue_s=0.7 * start)
    value, deadline = oracle.best(weight, 0.7 * start, start)
    assert weight * found.unsent + 0.7 * start * found.deadline_s == pytest.approx(value, rel=1e-8)
    assert found.deadline_s == pytest.approx(deadline, rel=1e-4)  # flat around its best


@pytest.mark.parametrize("seed", range(1, 5))
def test_with_exact_curves_too_the_best_round_is_that_of_a_general_solver(seed: int) -> None:
    uplink = random_uplink(seed)
    curves, oracle = random_stepped(seed, uplink)
    start = middle_s(uplink)
    weight = start / -share_band(uplink, curves, np.array([start])).slope_per_s[0]
    found = best_round(uplink, curves, weight=weight, queue_s=0.7 * start)
    value, _ = oracle.best(weight, 0.7 * start, start)
    ours = weight * found.unsent + 0.7 * start * found.deadline_s
    assert ours == pytest.approx(value, rel=1e-8)


@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_more_time_never_loses_more_and_a_band_not_enough_for_all_is_used_up(
    seed: int, kind: str, num_clients: int
) -> None:
    uplink = random_uplink(seed, num_clients)
    curves = curves_of(kind, seed, uplink)
    payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + uplink.dense_bits])
    empty, dense = uplink.earliest_s(payloads)
    shares = share_band(uplink, curves, np.geomspace(empty * 1.0001, 1.2 * dense, 20))
    assert (np.diff(shares.unsent) <= 1e-10 * shares.unsent[0]).all()
    assert (shares.bits <= uplink.dense_bits * (1.0 + 1e-12)).all()
    assert (shares.bits >= 0.0).all()
    used = shares.bandwidth_hz.sum(axis=1)
    assert (used <= uplink.bandwidth_hz * (1.0 + 1e-9)).all()
    is_short = (shares.bits < curves.useful_bits * (1.0 - 1e-9)).any(axis=1)
    assert used[is_short] == pytest.approx(np.full(is_short.sum(), uplink.bandwidth_hz), rel=1e-9)
    sent = uplink.overhead_bits + shares.bits
    late = uplink.finish_s(sent, shares.bandwidth_hz) - shares.deadline_s[:, None]
    assert (late <= 1e-9 * shares.deadline_s[:, None]).all()


@given(st.integers(0, 10**6), st.sampled_from(("exponential", "generic")))
@settings(deadline=None, max_examples=25)
def test_the_slope_is_what_a_later_deadline_saves(seed: int, kind: str) -> None:
    uplink = random_uplink(seed)
    curves = curves_of(kind, seed, uplink)
    deadline, step = middle_s(uplink), 1e-5
    near = share_band(uplink, curves, deadline * np.array([1.0 - step, 1.0, 1.0 + step]))
    saved = (near.unsent[2] - near.unsent[0]) / (2.0 * step * deadline)
    assert near.slope_per_s[1] == pytest.approx(saved, rel=1e-3, abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.floats(0.05, 20.0))
@example(826, "stepped", 12.25)  # two lowest places a fiftieth apart
@example(1426, "stepped", 14.595184751087547)
@settings(deadline=None, max_examples=15)
def test_no_deadline_of_a_fine_grid_beats_the_best_round(seed: int, kind: str, queue: float) -> None:
    uplink = random_uplink(seed)
    curves = curves_of(kind, seed, uplink)
    found = best_round(uplink, curves, weight=10.0, queue_s=queue)
    payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + uplink.dense_bits])
    grid = share_band(uplink, curves, np.geomspace(*uplink.earliest_s(payloads), 200))
    totals = 10.0 * grid.unsent + queue * grid.deadline_s
    assert 10.0 * found.unsent + queue * found.deadline_s <= totals.min() * (1.0 + 1e-9)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.1, 10.0))
@settings(deadline=None, max_examples=40)
def test_steps_on_everything_at_once_end_where_the_price_shares_the_band(
    seed: int, num_clients: int, part: float
) -> None:
    uplink = random_uplink(seed, num_clients)
    curves, _ = random_exponential(seed, uplink)
    middle = share_band(uplink, curves, np.array([middle_s(uplink)]))
    slope = -part * float(middle.slope_per_s[0])
    for low in lows(uplink, curves.pieces(), slope) if slope > 0.0 else []:
        shares = share_band(uplink, curves, np.array([low.deadline_s]))
        assert low.unsent == pytest.approx(shares.unsent[0], rel=1e-10)
        assert low.widths_hz == pytest.approx(shares.bandwidth_hz[0], rel=1e-6)
        assert -shares.slope_per_s[0] == pytest.approx(slope, rel=1e-6)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_what_bounds_the_total_far_away_does(seed: int) -> None:
    uplink = random_uplink(seed)
    curves, _ = random_exponential(seed, uplink)
    payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + uplink.dense_bits])
    middle = share_band(uplink, curves, np.array([middle_s(uplink)]))
    slope = -float(middle.slope_per_s[0])
    grid = share_band(uplink, curves, np.geomspace(*uplink.earliest_s(payloads), 30)[1:])
    totals = grid.unsent + slope * grid.deadline_s
    for low in lows(uplink, curves.pieces(), slope) if slope > 0.0 else []:
        after = grid.deadline_s - low.deadline_s
        bound = low.total + np.where(after > 0.0, -low.later * after, -low.earlier * after)
        assert (totals >= bound - 1e-9 * low.total).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_out_of_the_round_needs_no_signal(kind: str) -> None:
    whole = random_uplink(4, 4)
    bits, energies, weights = random_pairs(4, whole, 8)

    def played(clients: list[int], weights: np.ndarray, uplink: Uplink) -> float:
        some = [bits[client] for client in clients], [energies[client] for client in clients]
        curves: Curves = Stepped(*some, weights)
        if kind == "exponential":
            curves = Exponential.fit(*some, uplink.dense_bits, weights)
        if kind == "generic":
            curves = Stepped.generic(uplink.dense_bits, np.ones(len(clients)), weights)
        return best_round(uplink, curves, weight=3.0, queue_s=1.0).deadline_s

    out = np.array([1.0, 1.0, 0.0, 1.0])
    without = [
        np.delete(one, 2) for one in (whole.snr_hz, whole.start_s, whole.overhead_bits, whole.dense_bits)
    ]
    few = Uplink(without[0], whole.bandwidth_hz, *without[1:])
    silent = Uplink(
        np.where(out > 0.0, whole.snr_hz, 1e-300),
        whole.bandwidth_hz,
        whole.start_s * out,
        whole.overhead_bits * out,
        whole.dense_bits,
    )
    expected = played([0, 1, 3], np.delete(weights, 2), few)
    assert played([0, 1, 2, 3], weights * out, silent) == pytest.approx(expected, rel=1e-6)


def test_turns_are_never_better_than_the_joint_search_and_stall() -> None:
    gaps, sweeps = [], []
    for seed in range(30):
        uplink = random_uplink(seed)
        curves, _ = random_exponential(seed, uplink)
        limit = middle_s(uplink)
        weight = limit / -share_band(uplink, curves, np.array([limit])).slope_per_s[0]
        joint = best_round(uplink, curves, weight=weight, queue_s=limit)
        turns, number = alternate(uplink, curves, weight=weight, queue_s=limit, tolerance=1e-3)
        totals = [weight * one.unsent + limit * one.deadline_s for one in (turns, joint)]
        gaps.append(totals[0] / totals[1] - 1.0)
        sweeps.append(number)
    assert min(gaps) > -1e-6
    assert 0.003 < np.mean(gaps) < 0.2
    assert np.median(sweeps) <= 3


def test_a_curve_fitted_to_an_exponential_is_that_exponential() -> None:
    uplink = random_uplink(0, 3)
    edges = np.linspace(0.0, 1.0, 2001)
    decays = np.array([0.5, 2.0, 6.0])
    bits = [np.diff(edges) * uplink.dense_bits[0]] * 3
    energies = [-np.diff(np.exp(-decay * edges)) for decay in decays]
    fit = Exponential.fit(bits, energies, uplink.dense_bits, np.ones(3))
    # What the exponential leaves at the end is not in the pairs, so the fit is of a lower curve.
    exact = Stepped(bits, energies, np.ones(3))
    assert fit.remaining(np.zeros(3)) == pytest.approx(exact.remaining(np.zeros(3)))
    means = [
        fit.remaining(np.full(3, part * uplink.dense_bits[0])) for part in (np.arange(2000) + 0.5) / 2000
    ]
    true = [
        exact.remaining(np.full(3, part * uplink.dense_bits[0])) for part in (np.arange(2000) + 0.5) / 2000
    ]
    assert np.mean(means, axis=0) == pytest.approx(np.mean(true, axis=0), rel=1e-4)


def test_pairs_are_sent_in_the_order_of_energy_per_bit() -> None:
    curves = Stepped([np.array([2.0, 1.0, 1.0])], [np.array([3.0, 1.0, 2.0])], np.array([0.5]))
    assert curves.remaining(np.array([0.0])) == pytest.approx([3.0])
    assert curves.remaining(np.array([1.0])) == pytest.approx([2.0])
    assert curves.remaining(np.array([3.0])) == pytest.approx([0.5])
    assert curves.num_whole(np.array([3.5])).tolist() == [2]


def test_energies_and_sizes_must_make_sense() -> None:
    with pytest.raises(ValueError, match="positive"):
        Stepped([np.array([0.0])], [np.array([1.0])], np.ones(1))
    with pytest.raises(ValueError, match="finite"):
        Stepped([np.array([1.0])], [np.array([np.nan])], np.ones(1))


def test_a_client_with_nothing_to_win_sends_its_overhead_only() -> None:
    uplink = random_uplink(2, 3)
    bits, energies, weights = random_pairs(2, uplink, 8)
    energies = energies.copy()
    energies[1] = 0.0
    curves = Stepped(list(bits), list(energies), weights)
    found = round_by(uplink, curves, middle_s(uplink))
    assert found.bits[1] == 0.0
    assert found.bits[0] > 0.0


def test_equal_bandwidths_filled_to_a_deadline_end_by_it() -> None:
    uplink = random_uplink(3)
    curves, _ = random_exponential(3, uplink)
    widths = np.full(6, uplink.bandwidth_hz / 6)
    found = filled(uplink, curves, widths, middle_s(uplink))
    sent = uplink.overhead_bits + found.bits
    assert uplink.finish_s(sent, widths).max() <= found.deadline_s * (1.0 + 1e-12)
    assert found.unsent >= round_by(uplink, curves, found.deadline_s).unsent


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=50), st.floats(0.1, 5.0), st.floats(0.0, 9.0))
def test_the_mean_latency_is_at_most_the_limit_and_what_the_queue_grew_by(
    latencies: list[float], limit: float, first: float
) -> None:
    queue = first
    for latency in latencies:
        queue = next_queue_s(queue, latency, limit)
    assert np.mean(latencies) - limit <= (queue - first) / len(latencies) + 1e-9


@pytest.mark.parametrize(
    "kind",
    ["stepped", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("exponential", "generic"))],
)
def test_over_300_fading_rounds_the_mean_latency_keeps_the_limit(kind: str) -> None:
    average = random_uplink(11)
    curves = curves_of(kind, 11, average)
    limit = middle_s(average, 0.4)
    slope = float(-share_band(average, curves, np.array([limit])).slope_per_s[0])
    weight = limit / slope
    first = queue = weight * slope
    rng = np.random.default_rng(5)
    latencies = []
    for _ in range(300):
        fading = rng.exponential(size=average.num_clients)
        uplink = Uplink(
            average.snr_hz * fading,
            average.bandwidth_hz,
            average.start_s,
            average.overhead_bits,
            average.dense_bits,
        )
        latencies.append(
            best_round(uplink, curves, weight=weight, queue_s=queue, max_s=20 * limit).deadline_s
        )
        queue = next_queue_s(queue, latencies[-1], limit)
    mean = float(np.mean(latencies))
    assert mean - limit <= (queue - first) / 300 + 1e-9
    assert mean == pytest.approx(limit, rel=0.01)
    assert mean <= limit + queue / 300
