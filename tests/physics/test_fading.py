"""Fading against its theory: distributions, autocorrelation, ergodic capacity.

Seeds are fixed, so a test at significance 1e-3 passes always or never.
"""

import numpy as np
import pytest
from scipy import special, stats

from cosim.parts import make
from cosim.radio.fading import Fading
from cosim.radio.fading.jakes import Jakes
from cosim.radio.fading.tdl import TappedDelayLine
from cosim.rng import stream

SIGNIFICANCE = 1e-3


def block_gains(settings: dict, num: int = 20_000, seed: int = 11):
    """Return independent gains, shape (num,)."""
    fading = make(Fading, settings | {"coherence_time_s": 1e-3})
    return fading.gains(stream(seed, "link"), 0, num // 4, 4).ravel()


def p_value(gains, cdf) -> float:
    return stats.kstest(gains, cdf).pvalue


def rician_cdf(k_factor: float):
    """Gain g of mean one: 2 (K + 1) g is noncentral chi-square, 2 degrees of freedom, noncentrality 2 K."""
    return lambda gain: stats.ncx2.cdf(2.0 * (k_factor + 1.0) * gain, 2, 2.0 * k_factor)


def test_rayleigh_power_gains_are_exponential():
    assert p_value(block_gains({"kind": "rayleigh_block"}), stats.expon.cdf) > SIGNIFICANCE


@pytest.mark.parametrize("k_factor", [0.5, 3.0, 20.0])
def test_rician_power_gains_are_noncentral_chi_square(k_factor):
    gains = block_gains({"kind": "rician", "k_factor": k_factor})
    assert p_value(gains, rician_cdf(k_factor)) > SIGNIFICANCE
    assert p_value(gains, stats.expon.cdf) < SIGNIFICANCE  # the test can tell


@pytest.mark.parametrize("m", [0.5, 2.0, 7.5])
def test_nakagami_power_gains_are_gamma(m):
    gains = block_gains({"kind": "nakagami", "m": m})
    assert p_value(gains, stats.gamma(m, scale=1.0 / m).cdf) > SIGNIFICANCE
    assert p_value(gains, stats.expon.cdf) < SIGNIFICANCE


def test_gains_of_neighbouring_blocks_and_subchannels_are_uncorrelated():
    gains = make(Fading, {"kind": "rayleigh_block", "coherence_time_s": 1e-3}).gains(
        stream(11, "link"), 0, 10_000, 4
    )
    five_sigma = 5.0 / np.sqrt(len(gains))
    assert abs(np.corrcoef(gains[:-1, 0], gains[1:, 0])[0, 1]) < five_sigma
    assert abs(np.corrcoef(gains[:, 0], gains[:, 1])[0, 1]) < five_sigma


@pytest.mark.parametrize(
    "like_rayleigh", [{"kind": "rician", "k_factor": 0.0}, {"kind": "nakagami", "m": 1.0}]
)
def test_rician_without_line_of_sight_and_nakagami_of_one_are_the_rayleigh_air(like_rayleigh):
    np.testing.assert_allclose(block_gains(like_rayleigh), block_gains({"kind": "rayleigh_block"}), rtol=1e-9)


def test_a_stronger_line_of_sight_and_a_larger_m_fade_less():
    rician = [block_gains({"kind": "rician", "k_factor": k}).std() for k in (0.0, 1.0, 10.0, 1000.0)]
    nakagami = [block_gains({"kind": "nakagami", "m": m}).std() for m in (0.5, 1.0, 10.0, 1000.0)]
    assert sorted(rician, reverse=True) == rician
    assert sorted(nakagami, reverse=True) == nakagami


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0, 1000.0])
def test_ergodic_rayleigh_capacity_meets_its_closed_form(snr):
    gains = block_gains({"kind": "rayleigh_block"}, num=200_000)
    efficiency = np.log2(1.0 + snr * gains)
    closed_form = np.exp(1.0 / snr) * special.exp1(1.0 / snr) / np.log(2.0)
    assert abs(efficiency.mean() - closed_form) < 5.0 * efficiency.std() / np.sqrt(len(gains))


def test_jakes_power_gains_are_exponential_at_any_instant():
    fading = Jakes(doppler_hz=50.0, num_sinusoids=32)
    for block in (0, 1, 12_345):
        gains = fading.gains(stream(11, "link"), block, 1, 5_000).ravel()
        assert p_value(gains, stats.expon.cdf) > SIGNIFICANCE


def test_jakes_second_moment_shows_the_number_of_sinusoids():
    fading = Jakes(doppler_hz=50.0, num_sinusoids=4)
    squares = fading.gains(stream(11, "link"), 0, 1, 100_000) ** 2
    assert abs(squares.mean() - (2.0 - 3.0 / 16.0)) < 5.0 * squares.std() / np.sqrt(squares.size)


@pytest.mark.parametrize("first", [0, 100_000])
def test_jakes_amplitudes_are_correlated_in_time_as_j0(first):
    fading = Jakes(doppler_hz=50.0, sample_time_s=1e-3, num_sinusoids=8)
    amplitudes = fading.amplitudes(stream(11, "link"), first, 60, 4_000)
    products = amplitudes[:1].conj() * amplitudes
    lags_s = np.arange(60) * 1e-3
    expected = special.j0(2.0 * np.pi * 50.0 * lags_s)
    five_sigma = 5.0 * products.real.std(axis=1) / np.sqrt(4_000)
    assert (np.abs(products.real.mean(axis=1) - expected) < five_sigma).all()
    assert (np.abs(products.imag.mean(axis=1)) < five_sigma + 1e-12).all()


def test_jakes_power_gains_are_correlated_in_time_as_j0_squared():
    fading = Jakes(doppler_hz=50.0, sample_time_s=1e-3, num_sinusoids=64)
    gains = fading.gains(stream(12, "link"), 0, 20, 4_000)
    products = gains[:1] * gains
    expected = 1.0 + special.j0(2.0 * np.pi * 50.0 * np.arange(20) * 1e-3) ** 2
    five_sigma = 5.0 * products.std(axis=1) / np.sqrt(4_000)
    finite_sum = 1.0 / 64.0  # what 64 sinusoids leave of the limit
    assert (np.abs(products.mean(axis=1) - expected) < five_sigma + finite_sum).all()


def test_speed_and_carrier_give_the_doppler_of_speed_over_wavelength():
    by_speed = Jakes(speed_m_per_s=30.0, carrier_hz=299_792_458.0 * 10.0)
    assert by_speed.max_doppler_hz == pytest.approx(300.0)
    by_doppler = Jakes(doppler_hz=by_speed.max_doppler_hz)
    np.testing.assert_array_equal(
        by_speed.gains(stream(1, "link"), 0, 50, 2), by_doppler.gains(stream(1, "link"), 0, 50, 2)
    )


def test_a_slower_client_walks_through_the_same_air_more_slowly():
    slow = Jakes(doppler_hz=10.0).gains(stream(1, "link"), 0, 61, 3)
    fast = Jakes(doppler_hz=30.0).gains(stream(1, "link"), 0, 21, 3)
    np.testing.assert_allclose(slow[::3], fast, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("profile", ["A", "C", "D"])
def test_a_tapped_delay_line_has_its_delay_profile_and_delay_spread(profile):
    line = TappedDelayLine(profile=profile, delay_spread_s=300e-9, doppler_hz=50.0)
    drawn = [line.taps(stream(n, "line"), np.zeros(1)) for n in range(1500)]
    delays_s, powers = drawn[0][0], np.mean([np.abs(taps[0]) ** 2 for _, taps in drawn], axis=0)
    assert powers.sum() == pytest.approx(1.0, abs=0.06)
    mean_s = (powers * delays_s).sum() / powers.sum()
    spread_s = np.sqrt((powers * (delays_s - mean_s) ** 2).sum() / powers.sum())
    assert spread_s == pytest.approx(300e-9, rel=0.08)
    # the frequency correlation of amplitudes is the Fourier transform of that profile
    apart_hz = 500e3
    here, there = (
        np.array([(taps[0] * np.exp(-2j * np.pi * at_hz * delays_s)).sum() for _, taps in drawn])
        for at_hz in (0.0, apart_hz)
    )
    expected = powers @ np.exp(-2j * np.pi * apart_hz * delays_s)
    assert abs(np.mean(here.conj() * there) - expected) < 5.0 / np.sqrt(len(drawn))


def test_taps_have_the_doppler_spectrum_of_jakes_and_the_line_of_sight_its_own_shift():
    line = TappedDelayLine(profile="D", doppler_hz=50.0, sample_time_s=1e-3)
    lags_s = np.arange(12) * 1e-3
    amplitudes = np.stack([line.taps(stream(n, "line"), line.swept(0, 12))[1] for n in range(1500)])
    correlation = (amplitudes[:, :1].conj() * amplitudes).mean(axis=0)
    correlation /= correlation[0]
    expected = special.j0(2.0 * np.pi * 50.0 * lags_s)
    np.testing.assert_allclose(correlation[:, 1], expected, atol=5.0 / np.sqrt(1500))
    np.testing.assert_allclose(correlation[:, 0], np.exp(2j * np.pi * 0.7 * 50.0 * lags_s), atol=1e-9)


def test_neighbouring_subchannels_fade_together_as_far_as_the_coherence_bandwidth():
    line = TappedDelayLine(profile="A", delay_spread_s=100e-9, doppler_hz=50.0)
    widths_hz = np.full(60, 180e3)
    gains = np.stack([line.gains_over(stream(n, "line"), 0, 1, widths_hz)[0] for n in range(1500)])
    correlation = np.corrcoef(gains.T)[0]
    assert correlation[1] > 0.98
    assert correlation[-1] < 0.35
    np.testing.assert_allclose(gains.mean(axis=0), 1.0, atol=0.13)


@pytest.mark.parametrize("kind", ["jakes", "tdl"])
def test_what_follows_clients_is_without_them_the_gain_of_one_at_rest(kind):
    fading = make(Fading, {"kind": kind, "follow_mobility": True})
    gains = fading.gains_over(stream(1, "link"), 0, 5, np.full(4, 180e3))
    assert (gains == gains[0]).all()
    resting = fading.gains_along(stream(1, "link"), np.zeros(1), np.full(4, 180e3))
    np.testing.assert_array_equal(gains[:1], resting)
