"""Power control and water-filling: against a convex solver, closed forms and each other."""

from dataclasses import replace

import numpy as np
import pytest
from convex import ConvexPower
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.closed_form import Phase
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import control_power
from cosim.control.solvers.water_filling import WaterFilling, max_rate, min_power
from cosim.errors import AllocationError
from cosim.units import Floats, Ints
from tests.cells import phases, random_phase


def _assignment(phase: Phase, seed: int) -> Ints:
    """Return random assignment under which every client has at least one subchannel."""
    rng = np.random.default_rng(seed)
    spare = rng.integers(phase.num_clients, size=phase.num_subchannels - phase.num_clients)
    return rng.permutation(np.concatenate([np.arange(phase.num_clients), spare]))


def _powers(assignment: Ints, tx_power_w: Floats, phase: Phase) -> Floats:
    return np.bincount(assignment, weights=tx_power_w, minlength=phase.num_clients)


@st.composite
def subchannels(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Gains over up to six decades, some equal, and unequal widths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    count = draw(st.integers(1, 12))
    gains = 10.0 ** (6.0 + draw(st.floats(0.0, 6.0)) * rng.random(count))
    gains[: draw(st.integers(0, count))] = gains[0]
    return gains, rng.uniform(1e4, 1e6, count)


@pytest.mark.parametrize("seed", range(40))
def test_the_deadline_is_the_one_a_convex_solver_finds(seed):
    size = [(5, 20), (3, 8), (2, 2), (1, 6)][seed % 4]
    phase = random_phase(seed, *size, decades=3.0, is_flat=seed % 5 == 4)
    assignment = _assignment(phase, seed)
    assert control_power(phase, assignment).deadline_s == pytest.approx(
        ConvexPower(phase, assignment).solve(), rel=1e-5
    )


@settings(deadline=None)
@given(subchannels(), st.floats(-9.0, 3.0))
def test_the_least_power_of_the_most_rate_is_the_power_again(band, log_power):
    power = np.array(10.0**log_power)
    assert float(min_power(max_rate(power, *band), *band)) == pytest.approx(float(power), rel=1e-9)


@settings(deadline=None)
@given(subchannels(), st.floats(-3.0, 1.3))
def test_the_most_rate_of_the_least_power_is_the_rate_again(band, log_efficiency):
    rate = np.array(10.0**log_efficiency * band[1].sum())
    assert float(max_rate(min_power(rate, *band), *band)) == pytest.approx(float(rate), rel=1e-9)


@settings(deadline=None)
@given(subchannels(), st.floats(-6.0, 1.0), st.integers(0, 2**31))
def test_no_other_spread_of_a_power_carries_more(band, log_power, seed):
    gains, widths = band
    power = 10.0**log_power
    shares = np.random.default_rng(seed).dirichlet(np.full(len(gains), 0.5), size=50) * power
    others = (widths * np.log2(1.0 + shares / widths * gains)).sum(axis=1)
    best = max_rate(np.array(power), gains, widths)
    filled = WaterFilling(gains, widths).psd_for_rate(best)
    reached = float((widths * np.log2(1.0 + filled * gains)).sum())
    assert float((filled * widths).sum()) == pytest.approx(power, rel=1e-9)
    assert reached == pytest.approx(float(best), rel=1e-9)
    assert others.max() <= reached * (1.0 + 1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_under_a_cap_the_deadline_is_the_one_a_convex_solver_finds(seed):
    size = [(5, 20), (3, 8), (2, 2)][seed % 3]
    phase = random_phase(seed, *size, decades=3.0, is_flat=seed % 4 == 3)
    assignment = _assignment(phase, seed)
    free = control_power(phase, assignment)
    cap = float((free.rates_bit_per_s / phase.bandwidths_hz.sum()).max()) * (1.0 + 3.0 * (seed % 2))
    capped = replace(phase, cap_bit_per_s_per_hz=cap)
    found = control_power(capped, assignment)
    assert found.deadline_s == pytest.approx(ConvexPower(capped, assignment).solve(), rel=1e-5)
    assert (_powers(assignment, found.tx_power_w, phase) <= phase.max_tx_power_w * (1.0 + 1e-12)).all()
    snr = found.tx_power_w / phase.bandwidths_hz * phase.gains[assignment, np.arange(phase.num_subchannels)]
    assert (np.log2(1.0 + snr) <= cap * (1.0 + 1e-9)).all()  # no watt more than the cap takes


@settings(deadline=None)
@given(subchannels(), st.floats(-7.0, 4.0), st.floats(-1.0, 1.3))
def test_under_a_cap_water_fills_to_a_level_and_no_further(band, log_power, log_cap):
    """The level that spends the power is sought by bisection, apart from any break point."""
    (gains, widths), power, cap = band, 10.0**log_power, 10.0**log_cap
    full = (2.0**cap - 1.0) / gains

    def psd(log_rise: float) -> Floats:
        rise = np.exp(log_rise)  # of the level over where the best subchannel begins, as a share
        return np.clip((rise - (gains.max() / gains - 1.0)) / gains.max(), 0.0, full)

    low, high = -40.0, 40.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (psd(middle) * widths).sum() < power else (low, middle)
    filling = WaterFilling(gains, widths, cap)
    expected = float((widths * np.log1p(psd(low) * gains)).sum() / np.log(2.0))
    best = filling.max_rate(np.array(power))
    assert float(best) == pytest.approx(expected, rel=1e-9)
    spent = min(power, float((full * widths).sum()))
    assert float(filling.min_power(best)) == pytest.approx(spent, rel=1e-6)
    filled = filling.psd_for_rate(best)
    assert float((filled * widths).sum()) == pytest.approx(spent, rel=1e-6)
    assert float((widths * np.log1p(filled * gains)).sum() / np.log(2.0)) == pytest.approx(expected, rel=1e-9)
    assert float(filling.min_power(np.array(1.001 * cap * widths.sum()))) == np.inf


def test_a_cap_that_nobody_reaches_changes_nothing_and_a_low_one_alone_sets_the_deadline():
    phase = random_phase(3, 4, 12, decades=2.0)
    assignment = np.arange(12) % 4
    free = control_power(phase, assignment)
    idle = control_power(replace(phase, cap_bit_per_s_per_hz=60.0), assignment)
    np.testing.assert_allclose(idle.tx_power_w, free.tx_power_w, rtol=1e-9)
    low = control_power(replace(phase, cap_bit_per_s_per_hz=1e-3), assignment)
    widths = np.bincount(assignment, weights=phase.bandwidths_hz)
    assert low.deadline_s == pytest.approx((phase.compute_s + phase.bits / (1e-3 * widths)).max())


@settings(deadline=None)
@given(phases(), st.integers(0, 2**31))
def test_powers_keep_every_limit_and_give_the_rates_and_the_deadline_they_say(phase, seed):
    assignment = _assignment(phase, seed)
    found = control_power(phase, assignment)
    assert (found.tx_power_w >= 0.0).all()
    assert (_powers(assignment, found.tx_power_w, phase) <= phase.max_tx_power_w * (1.0 + 1e-12)).all()
    assert found.tx_power_w.sum() <= phase.max_total_tx_power_w * (1.0 + 1e-12)
    np.testing.assert_array_equal(phase.rates(assignment, found.tx_power_w), found.rates_bit_per_s)
    assert found.deadline_s == phase.finish_s(found.rates_bit_per_s).max()


@settings(deadline=None)
@given(phases(), st.integers(0, 2**31))
def test_all_clients_finish_together_and_some_limit_is_met(phase, seed):
    assignment = _assignment(phase, seed)
    found = control_power(phase, assignment)
    np.testing.assert_allclose(phase.finish_s(found.rates_bit_per_s), found.deadline_s, rtol=1e-9)
    fullest = (_powers(assignment, found.tx_power_w, phase) / phase.max_tx_power_w).max()
    assert max(fullest, found.tx_power_w.sum() / phase.max_total_tx_power_w) == pytest.approx(1.0, rel=1e-9)


@settings(deadline=None)
@given(phases(), st.integers(0, 2**31))
def test_without_a_limit_on_the_sum_the_slowest_client_at_full_power_sets_the_deadline(phase, seed):
    phase = replace(phase, max_total_tx_power_w=np.inf)
    assignment = _assignment(phase, seed)
    alone = np.array(
        [
            float(max_rate(np.array(limit), phase.gains[client, mine], phase.bandwidths_hz[mine]))
            for client, limit in enumerate(phase.max_tx_power_w)
            for mine in [np.flatnonzero(assignment == client)]
        ]
    )
    found = control_power(phase, assignment)
    assert found.deadline_s == pytest.approx(float(phase.finish_s(alone).max()), rel=1e-11)
    slowest = int(phase.finish_s(alone).argmax())
    spent = _powers(assignment, found.tx_power_w, phase)[slowest]
    assert spent == pytest.approx(phase.max_tx_power_w[slowest], rel=1e-9)


@settings(deadline=None)
@given(phases(), st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_a_tighter_limit_on_the_sum_is_never_faster(phase, seed, share):
    assignment = _assignment(phase, seed)
    limit = min(phase.max_total_tx_power_w, float(phase.max_tx_power_w.sum()))
    tighter = replace(phase, max_total_tx_power_w=share * limit)
    assert control_power(tighter, assignment).deadline_s >= control_power(phase, assignment).deadline_s * (
        1.0 - 1e-12
    )


@pytest.mark.parametrize("fault", ["no power", "no gain"])
def test_a_client_that_can_never_finish_is_named_with_what_it_lacks(fault):
    phase = random_phase(5, 3, 6)
    if fault == "no power":
        phase = replace(phase, max_tx_power_w=phase.max_tx_power_w * np.array([1.0, 0.0, 1.0]))
    else:
        phase = replace(phase, gains=phase.gains * np.array([[1.0], [0.0], [1.0]]))
    with pytest.raises(AllocationError, match=r"main_uplink: .*client 1 .* W are missing"):
        control_power(phase, np.arange(6) % 3)


def test_a_client_that_owns_nothing_is_not_said_to_hear_nothing():
    phase = random_phase(6, 3, 6)
    with pytest.raises(AllocationError, match="client 2") as refusal:
        control_power(phase, np.arange(6) % 2)
    assert "hears nothing" not in str(refusal.value)


def test_a_sum_of_no_watts_is_refused_by_its_link():
    phase = replace(random_phase(7, 3, 6), max_total_tx_power_w=0.0)
    with pytest.raises(AllocationError, match=r"main_uplink: .*sum"):
        control_power(phase, np.arange(6) % 3)


def test_a_client_with_nothing_to_send_is_given_no_power():
    phase = random_phase(8, 3, 9)
    phase = replace(phase, bits=phase.bits * np.array([1.0, 0.0, 1.0]))
    found = control_power(phase, greedy_assignment(phase))
    assert found.tx_power_w[greedy_assignment(phase) == 1].sum() == 0.0
    assert np.isfinite(found.deadline_s)
