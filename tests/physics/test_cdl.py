"""Clustered delay lines against closed forms: delays, spectra and antennas follow from the angles."""

import json
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cosim.radio.fading import cdl
from cosim.radio.fading.cdl import ClusteredDelayLine
from cosim.rng import stream

PROFILES = "ABCDE"
NUM_STREAMS = 250


def part(profile, **settings):
    return ClusteredDelayLine(profile=profile, **{"doppler_hz": 10.0, "movement_deg": 30.0, **settings})


def clusters(one, swept):
    """Return amplitudes of many streams, shape (num_streams, count, num_antennas, num_clusters)."""
    each = [one.clusters(stream(7, "cdl", n), np.asarray(swept)) for n in range(NUM_STREAMS)]
    return np.moveaxis(np.array(each), 1, 2)


def mean_over_couplings(profile, of_angles):
    """Return the mean of a function of two independent angles over all rays, one for each cluster."""
    rays = cdl._rays(profile)
    share = rays.powers / rays.powers.sum(axis=1, keepdims=True)
    first, second = of_angles(rays)
    return [
        sum(
            p * q * (np.exp(1j * value(a, b)))
            for (p, a), (q, b) in product(zip(own, x, strict=True), zip(own, y, strict=True))
        )
        for own, x, y, value in ((s, x, y, first) for s, x, y in zip(share, *second, strict=True))
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_clusters_have_the_powers_the_spectra_and_the_antennas_of_their_angles(profile):
    one, swept, rays = part(profile, num_antennas=2), np.array([0.0, 1.3]), cdl._rays(profile)
    found = clusters(one, swept)
    powers = rays.powers.sum(axis=1)
    assert powers.sum() == pytest.approx(1.0)
    several = 5.0 / np.sqrt(NUM_STREAMS)
    np.testing.assert_allclose((np.abs(found[:, 0, 0]) ** 2).mean(axis=0) / powers, 1.0, atol=several)
    over_time = (found[:, 1, 0] * found[:, 0, 0].conj()).mean(axis=0) / powers
    side_by_side = (found[:, 0, 1] * found[:, 0, 0].conj()).mean(axis=0) / powers
    spectrum = mean_over_couplings(
        profile,
        lambda r: (
            lambda azimuth, zenith: 1.3 * np.sin(zenith) * np.cos(azimuth - np.radians(30.0)),
            (r.arrival, r.arrival_zenith),
        ),
    )
    array = mean_over_couplings(
        profile,
        lambda r: (
            lambda azimuth, zenith: np.pi * np.sin(zenith) * np.sin(azimuth),
            (r.departure, r.departure_zenith),
        ),
    )
    np.testing.assert_allclose(over_time, spectrum, atol=several)
    np.testing.assert_allclose(side_by_side, array, atol=several)


def test_the_line_of_sight_is_one_ray_that_turns_by_its_angle():
    rays = cdl._rays("D")
    found = clusters(part("D"), [0.0, 2.0])[:, :, 0, 0]
    assert np.abs(found) == pytest.approx(np.sqrt(rays.powers[0, 0]))
    shift = np.sin(rays.arrival_zenith[0, 0]) * np.cos(rays.arrival[0, 0] - np.radians(30.0))
    np.testing.assert_allclose(found[:, 1] / found[:, 0], np.exp(2j * shift))


def test_more_antennas_harden_a_gain_and_keep_its_mean():
    widths_hz = np.full(1, 180e3)
    one, many = (
        np.array(
            [part("A", num_antennas=n).gains_over(stream(3, s), 0, 1, widths_hz)[0, 0] for s in range(250)]
        )
        for n in (1, 8)
    )
    assert one.mean() == pytest.approx(1.0, abs=0.25)
    assert many.mean() == pytest.approx(1.0, abs=0.15)
    assert many.var() < 0.5 * one.var()


def test_delays_are_those_of_the_profile_times_the_spread():
    """Over a wide band the correlation of two subchannels is the transform of the powers of the clusters."""
    rays, apart_hz, spread_s = cdl._rays("C"), 2e6, 300e-9
    one = part("C", delay_spread_s=spread_s)
    amplitudes = clusters(one, [0.0])[:, 0, 0]
    delays_s, _ = one.copies(stream(7, "cdl"), np.zeros(1))
    np.testing.assert_allclose(delays_s, spread_s * rays.delays)
    low = amplitudes.sum(axis=-1)
    high = (amplitudes * np.exp(-2j * np.pi * apart_hz * delays_s)).sum(axis=-1)
    expected = (rays.powers.sum(axis=1) * np.exp(-2j * np.pi * apart_hz * spread_s * rays.delays)).sum()
    assert (high * low.conj()).mean() == pytest.approx(expected, abs=5.0 / np.sqrt(NUM_STREAMS))


@pytest.mark.parametrize("profile", PROFILES)
def test_tables_are_those_of_sionna(profile):
    spec = find_spec("sionna")
    if spec is None or spec.origin is None:
        pytest.skip("sionna-no-rt is not installed (extra 'radio')")
    folder = Path(spec.origin).parent / "phy" / "channel" / "tr38901" / "models" / "v19_2"
    table, rays = json.loads((folder / f"CDL-{profile}.json").read_text()), cdl._rays(profile)
    powers = 10.0 ** (np.array(table["powers"]) / 10.0)
    np.testing.assert_allclose(rays.powers.sum(axis=1), powers / powers.sum())
    assert rays.delays.tolist() == table["delays"]
    named = zip(("aod", "aoa", "zod", "zoa"), ("cASD", "cASA", "cZSD", "cZSA"), rays[2:], strict=True)
    for angle, spread, found in named:
        np.testing.assert_allclose(np.degrees(found.mean(axis=1)), table[angle], atol=1e-9)
        assert np.degrees(np.ptp(found[-1])) == pytest.approx(2 * 2.1551 * table[spread])
