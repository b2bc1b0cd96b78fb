"""What is known of a channel, against closed forms: estimation, delay, steps, and what fails for it."""

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import j0
from scipy.stats import ncx2

from cosim.parts import make
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LINKS, ChannelSettings
from cosim.radio.csi import Csi, LinkName, Sight
from cosim.radio.knowledge import known_gains, soundings
from cosim.rng import stream

SHAPE = NUM_CLIENTS, NUM_SUBCHANNELS = 200, 250
CHAIN = {"kind": "chain", "steps": [{"kind": "delayed"}, {"kind": "estimated"}, {"kind": "quantised"}]}


def rayleigh(snr_of_gain=1.0, mean=1.0):
    """Return Rayleigh gains of many clients, and how they are seen."""
    root = stream(5, "csi")
    gains = -mean * np.log(root.uniforms(0, *SHAPE))
    streams = tuple(root.child("noise", client) for client in range(NUM_CLIENTS))
    return gains, Sight(np.full(SHAPE, mean), np.full((NUM_CLIENTS, 1), snr_of_gain), streams)


@pytest.mark.parametrize(("num_pilots", "snr"), [(1, 0.5), (4, 1.0), (16, 2.0)])
def test_an_estimate_has_the_power_and_the_correlation_of_mmse(num_pilots, snr):
    gains, sight = rayleigh(snr_of_gain=snr / 1e-9, mean=1e-9)
    known = make(Csi, {"kind": "estimated", "num_pilots": num_pilots}).known(gains, sight)
    error = 1.0 / (1.0 + snr * num_pilots)
    several = 5.0 / np.sqrt(gains.size)  # deviations of a mean, of numbers with a mean of one
    assert known.mean() / 1e-9 == pytest.approx(1.0 - error, abs=several)
    # powers of two complex Gaussians correlate by the square of what amplitudes do
    assert np.corrcoef(gains.ravel(), known.ravel())[0, 1] == pytest.approx(1.0 - error, abs=2 * several)


def test_who_inverts_an_estimate_arrives_in_phase_in_the_mean_and_is_off_by_the_error_over_the_estimate():
    gains, sight = rayleigh(snr_of_gain=2.0)
    estimate = make(Csi, {"kind": "estimated", "num_pilots": 3}).estimate(np.sqrt(gains), sight)
    sends = np.abs(estimate) ** 2 > 0.1  # others are silent
    ratio, size = (np.sqrt(gains) / estimate)[sends], np.abs(estimate[sends])
    error, num = 1.0 / (1.0 + 2.0 * 3), sends.sum()
    # the truth is the estimate plus an independent error, half of which is in phase
    off = (ratio.real - 1.0) * size / np.sqrt(error / 2.0)
    assert abs(off.mean()) < 5.0 / np.sqrt(num)
    assert (off**2).mean() == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / num))
    assert (ratio.imag * size).var() == pytest.approx(error / 2.0, rel=0.05)


@pytest.mark.parametrize("backoff_db", [0.0, 3.0])
def test_a_rate_by_an_estimate_fails_as_marcum_says(backoff_db):
    gains, sight = rayleigh(snr_of_gain=2.0)
    known = make(Csi, {"kind": "estimated", "num_pilots": 3}).known(gains, sight)
    error, asked = 1.0 / (1.0 + 2.0 * 3), known * 10.0 ** (-backoff_db / 10.0)
    # the truth is the estimate plus an independent error: 1 - Q1(a, b) is a noncentral chi squared
    expected = ncx2.cdf(2.0 * asked / error, 2, 2.0 * known / error)
    fails = gains < asked
    spread = np.sqrt((expected * (1.0 - expected)).sum()) / gains.size
    assert abs(fails.mean() - expected.mean()) < 4.0 * spread
    assert 0.0 < fails.mean() < 0.5 + 4.0 * spread


def test_steps_are_even_in_decibels_and_never_promise_more():
    part = make(Csi, {"kind": "quantised", "bits": 3, "lowest_snr_db": -6.0, "highest_snr_db": 15.0})
    gains, sight = rayleigh(snr_of_gain=20.0)
    known_db = 10.0 * np.log10(part.known(gains, sight) * 20.0)
    assert sorted(set(np.round(known_db, 6).ravel())) == [-6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    lost_db = 10.0 * np.log10(gains * 20.0) - known_db
    within = (known_db > -5.9) & (known_db < 14.9)
    assert ((lost_db[within] > -1e-9) & (lost_db[within] < 3.0 + 1e-9)).all()
    twice = part.known(part.known(gains, sight) * (1 + 1e-12), sight)
    np.testing.assert_allclose(twice, part.known(gains, sight))


@pytest.fixture(scope="module")
def jakes():
    air = {"fading": {"kind": "jakes", "doppler_hz": 20.0, "sample_time_s": 1e-3, "num_sinusoids": 12}}
    link = {"num_subchannels": 40, "bandwidth_hz": 8e6}
    return lambda **csi: Channel.build(
        ChannelSettings.model_validate({**air, "csi": csi, "main_uplink": link}), 24, 3
    )


@pytest.mark.parametrize("delay_s", [0.0, 0.008, 0.02])
def test_what_is_known_late_correlates_by_bessel(delay_s, jakes):
    channel = jakes(kind="delayed", delay_s=delay_s)
    powers = np.full(24, 0.2)
    shape = channel.large_scale_at(0).mean_gains.T
    known = known_gains(channel, "main_uplink", 500_000_000, powers) / shape
    now = channel.gain_at("main_uplink", 500_000_000) / shape
    expected = j0(2.0 * np.pi * 20.0 * delay_s) ** 2
    assert np.corrcoef(known.ravel(), now.ravel())[0, 1] == pytest.approx(expected, abs=0.1)


def test_before_anything_is_measured_gains_before_fading_are_known(jakes):
    channel = jakes(kind="delayed", delay_s=0.5)
    means = np.repeat(channel.large_scale_at(0).mean_gains.T, 40, axis=1)
    known = known_gains(channel, "main_uplink", 499_999_999, np.full(24, 0.2))
    np.testing.assert_array_equal(known, means)
    assert (known_gains(channel, "main_uplink", 500_000_000, np.full(24, 0.2)) != means).any()


def test_pilots_of_uplinks_are_in_turn_and_reports_are_of_every_subchannel():
    air = ChannelSettings.model_validate({"csi": CHAIN, "main_downlink": {"modelled": True}})
    up, down = soundings(air, ["main_uplink", "main_downlink"])
    assert (up.pilots_ns, up.report_ns, up.report_bits) == (4 * 71_350, 80_000, 80)
    assert up.lasts_ns(5) == 5 * (4 * 71_350 + 80_000)
    assert down.lasts_ns(5) == 4 * 71_350 + 5 * 80_000
    partly = {
        "kind": "chain",
        "steps": [
            CHAIN["steps"][1] | {"links": ["main_uplink"]},
            {"kind": "delayed", "links": ["main_downlink"]},
        ],
    }
    air = ChannelSettings.model_validate({"csi": partly})
    assert [air.csi_of(link).pilots_ns > 0 for link in LINKS] == [link == "main_uplink" for link in LINKS]
    assert [air.csi_of(link).delay_ns > 0 for link in LINKS] == [link == "main_downlink" for link in LINKS]
    assert [air.csi_of(link).is_perfect for link in LINKS] == ["federated" in link for link in LINKS]
    assert set(get_args(LinkName)) == set(LINKS)
    assert soundings(ChannelSettings(), ["main_uplink"]) == []


@pytest.mark.parametrize(
    ("csi", "message"),
    [
        ({"kind": "chain", "steps": []}, "steps is empty"),
        ({"kind": "chain", "steps": [{"kind": "quantised"}, {"kind": "estimated"}]}, "put it first"),
        ({"kind": "quantised", "lowest_snr_db": 30.0}, "is not below highest_snr_db 23"),
        ({"kind": "estimated", "num_pilots": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_known_is_refused(csi, message):
    with pytest.raises(ValidationError, match=message):
        make(Csi, csi)
