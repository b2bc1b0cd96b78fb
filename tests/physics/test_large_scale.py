"""Placement, path loss and shadowing against their theory."""

import numpy as np
import pytest
from scipy import stats

from cosim.radio.path_loss.free_space import FreeSpace
from cosim.radio.path_loss.log_distance import LogDistance
from cosim.radio.path_loss.macro_3gpp import Macro3gpp
from cosim.radio.placement.annulus import Annulus
from cosim.radio.placement.disc import Disc
from cosim.radio.shadowing.log_normal import LogNormal
from cosim.rng import stream

SIGNIFICANCE = 1e-3
DISTANCE_M = np.array([1.0, 10.0, 35.0, 250.0, 1000.0, 4000.0])


def ring_cdf(inner_m: float, outer_m: float):
    return lambda distance_m: (distance_m**2 - inner_m**2) / (outer_m**2 - inner_m**2)


def polar(positions):
    turns = np.arctan2(positions[:, 1], positions[:, 0]) / (2.0 * np.pi) % 1.0
    return np.hypot(positions[:, 0], positions[:, 1]), turns


@pytest.mark.parametrize(
    ("placement", "inner_m", "outer_m"),
    [
        (Disc(radius_m=200.0, min_distance_m=10.0), 10.0, 200.0),
        (Annulus(inner_m=50.0, outer_m=300.0), 50.0, 300.0),
    ],
)
def test_clients_are_uniform_in_area(placement, inner_m, outer_m):
    distance_m, turns = polar(placement.place(stream(21, "placement"), 20_000))
    assert distance_m.min() >= inner_m * (1.0 - 1e-12)
    assert distance_m.max() <= outer_m * (1.0 + 1e-12)
    assert stats.kstest(distance_m, ring_cdf(inner_m, outer_m)).pvalue > SIGNIFICANCE
    assert stats.kstest(turns, stats.uniform.cdf).pvalue > SIGNIFICANCE
    assert abs(stats.spearmanr(distance_m, turns).statistic) < 5.0 / np.sqrt(20_000)


def test_an_annulus_uniform_in_distance_draws_the_distance_itself():
    placement = Annulus(inner_m=50.0, outer_m=300.0, uniform_in="distance")
    distance_m, turns = polar(placement.place(stream(21, "placement"), 20_000))
    assert stats.kstest(distance_m, stats.uniform(50.0, 250.0).cdf).pvalue > SIGNIFICANCE
    assert stats.kstest(turns, stats.uniform.cdf).pvalue > SIGNIFICANCE


def test_free_space_loss_is_friis():
    wavelength_m = 299_792_458.0 / 2.4e9
    friis = (4.0 * np.pi * DISTANCE_M / wavelength_m) ** 2
    np.testing.assert_allclose(FreeSpace(carrier_hz=2.4e9).loss_db(DISTANCE_M), 10.0 * np.log10(friis))


def test_log_distance_with_exponent_two_is_free_space():
    friis = FreeSpace(carrier_hz=2e9)
    reference_db = float(friis.loss_db(np.array([1.0]))[0])
    log_distance = LogDistance(reference_m=1.0, reference_loss_db=reference_db, exponent=2.0)
    np.testing.assert_allclose(log_distance.loss_db(DISTANCE_M), friis.loss_db(DISTANCE_M))


def test_log_distance_stays_at_its_reference_before_it():
    log_distance = LogDistance(reference_m=35.0, reference_loss_db=70.0, exponent=3.7)
    np.testing.assert_allclose(
        log_distance.loss_db(DISTANCE_M), 70.0 + 37.0 * np.log10(np.maximum(DISTANCE_M / 35.0, 1.0))
    )


def test_macro_loss_is_the_line_of_the_report_and_its_general_form():
    np.testing.assert_allclose(Macro3gpp().loss_db(DISTANCE_M), 128.1 + 37.6 * np.log10(DISTANCE_M / 1e3))
    height_m, carrier_mhz = 15.0, 2000.0
    at_1_km = 80.0 - 18.0 * np.log10(height_m) + 21.0 * np.log10(carrier_mhz)
    assert at_1_km == pytest.approx(128.1, abs=0.06)
    assert 40.0 * (1.0 - 4e-3 * height_m) == pytest.approx(37.6)


def test_log_normal_shadowing_is_normal_in_decibels():
    loss_db = LogNormal(std_db=8.0).draw_db(stream(21, "shadowing"), 20_000)
    assert stats.kstest(loss_db, stats.norm(0.0, 8.0).cdf).pvalue > SIGNIFICANCE


def test_another_shadowing_depth_scales_the_same_draws():
    deep, shallow = (LogNormal(std_db=std).draw_db(stream(21, "shadowing"), 50) for std in (8.0, 4.0))
    np.testing.assert_allclose(deep, 2.0 * shallow)
