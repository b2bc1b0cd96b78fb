"""Rate models against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.radio.rate.constant_bandwidth import ConstantBandwidth
from cosim.radio.rate.shannon import Shannon
from cosim.radio.rate.truncated_shannon import TruncatedShannon


def test_shannon_rate_is_the_sum_of_b_log2_one_plus_snr():
    snr = np.array([[0.0, 1.0, 3.0], [7.0, 15.0, 31.0]])
    bandwidth_hz = np.array([1e5, 2e5, 4e5])
    np.testing.assert_array_equal(
        Shannon().rates(snr, bandwidth_hz), [2e5 * 1 + 4e5 * 2, 1e5 * 3 + 2e5 * 4 + 4e5 * 5]
    )


def test_an_snr_gap_costs_its_decibels_of_snr():
    snr, bandwidth_hz = np.array([20.0]), np.array([1e6])
    with_gap = Shannon(snr_gap_db=10.0).rates(snr, bandwidth_hz)
    assert with_gap == pytest.approx(Shannon().rates(snr / 10.0, bandwidth_hz))


def test_shannon_rate_over_width_falls_to_the_power_limit():
    power_over_noise_hz = 1e6  # P / N0: at infinite width the rate is P / (N0 ln 2)
    widths_hz = np.geomspace(1e4, 1e11, 30)
    rates = [Shannon().rates(np.array([power_over_noise_hz / b]), np.array([b])) for b in widths_hz]
    assert (np.diff(rates) > 0.0).all()
    assert rates[-1] == pytest.approx(power_over_noise_hz / np.log(2.0), rel=1e-5)


@settings(deadline=None)
@given(num_bytes=st.integers(1, 10**10), mbit_per_s=st.floats(1e-3, 1e4), snr=st.floats(0.0, 1e6))
def test_constant_bandwidth_is_the_formula_of_other_simulators(num_bytes, mbit_per_s, snr):
    model = ConstantBandwidth(rate_bit_per_s=mbit_per_s * 1e6)
    rate = model.rates(np.full(3, snr), np.full(3, 180e3))
    assert num_bytes * 8 / rate == num_bytes * 8 / (mbit_per_s * 1e6)


def test_constant_spectral_efficiency_grows_with_the_width_owned():
    model = ConstantBandwidth(spectral_efficiency_bit_per_s_per_hz=2.5)
    assert model.rates(np.zeros(2), np.array([1e5, 3e5])) == 1e6


def test_truncated_capacity_is_shannons_in_between_and_ends_at_both_sides():
    model = TruncatedShannon(attenuation=0.6, max_bit_per_s_per_hz=4.0, min_snr_db=-10.0)
    snr = 10.0 ** (np.array([-10.1, -9.9, 0.0, 12.0, 40.0]) / 10.0)
    rates = model.per_subchannel(snr, np.full(5, 1e6))
    expected = 0.6e6 * np.log2(1.0 + snr)
    np.testing.assert_allclose(rates[1:4], expected[1:4])
    assert rates[0] == 0.0
    assert rates[4] == 4e6 < expected[4]
