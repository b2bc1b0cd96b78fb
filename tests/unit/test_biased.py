"""Biased weights: the front, the optimum of the bound, and the sum that the medium makes of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.allocators.biased import Biased
from cosim.control.solvers.biased import Bound, Front
from cosim.errors import ScenarioError
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import capacity
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.fluid import Fluid
from cosim.radio.settings import Radio
from cosim.scenario.build import check, prepare
from cosim.scenario.load import change, load

SCENARIO = Path(__file__).parents[2] / "scenarios" / "biased_federated.toml"
SPREAD = np.array([100.0, 10.0, 0.3])
"""SNR of each client, linear."""


def bound(snr=SPREAD, dissimilarity=0.3, threshold=0.5):
    front = Front(snr, np.full(len(snr), 1.0 / len(snr)), threshold)
    return Bound(front, *Biased(dissimilarity=dissimilarity).bound_factors(len(snr)))


def test_the_ends_of_the_front_are_no_bias_and_least_noise():
    front = bound().front
    zero, least = front.at(0.0), front.at(1.0)
    np.testing.assert_allclose(zero / zero.sum(), front.wanted)
    assert zero.max() == pytest.approx(front.most.min())
    np.testing.assert_allclose(least, front.most)
    np.testing.assert_allclose(front.most, np.sqrt(SPREAD / (2.0 * np.e)))


@settings(deadline=None, max_examples=40)
@given(
    snr=st.lists(st.floats(1e-2, 1e3), min_size=2, max_size=6),
    theta=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_no_design_with_as_little_noise_has_less_bias_than_the_front(snr, theta, seed):
    made = bound(np.array(snr))
    here = made.front.at(theta)
    bias = made.terms(here)[0]
    drawn = made.front.most * np.random.default_rng(seed).uniform(0.0, 1.0, size=(500, len(snr)))
    # scaled to the noise of the design on the front, where they can be
    drawn *= (here.sum() / drawn.sum(axis=1))[:, None]
    can_be = (drawn <= made.front.most * (1.0 + 1e-9)).all(axis=1)
    assert (made.terms(drawn[can_be])[0] >= bias - 1e-12).all()
    factors = made.front.factors(here)
    np.testing.assert_allclose(factors * np.exp(-(factors**2) / made.front.snr), here, rtol=1e-9)


def test_bias_rises_and_noise_falls_along_the_front():
    made = bound()
    tried = np.stack([made.front.at(theta) for theta in np.linspace(0.0, 1.0, 50)])
    bias, _, noise = made.terms(tried)
    assert (np.diff(bias) >= -1e-12).all()
    assert (np.diff(noise) <= 1e-12).all()
    values = made(tried)
    assert values.argmin() not in (0, 49)  # a U


@pytest.mark.parametrize("dissimilarity", [0.01, 0.1, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("snr", [SPREAD, 1e3 * SPREAD, np.array([5.0, 5.0, 5.0])])
def test_the_optimum_is_within_a_percent_of_a_fine_grid_and_never_above_the_front(dissimilarity, snr):
    made = bound(snr, dissimilarity)
    steps = np.linspace(0.001, 0.998, 400)
    first, second = (one.ravel() for one in np.meshgrid(steps, steps))
    inside = first + second < 0.9995
    weights = np.stack([first, second, 1.0 - first - second], axis=1)[inside]
    grid = made(weights * (made.front.most / weights).min(axis=1, keepdims=True)).min()
    found = float(made(made.optimum()))
    assert found <= 1.01 * grid
    front = np.stack([made.front.at(theta) for theta in np.linspace(0.0, 1.0, 201)])
    assert found <= made(front).min() * (1.0 + 1e-9)


def test_the_medium_makes_the_sum_that_was_designed():
    """Its weights, its fading and its noise are those of the design, over as many draws as blocks."""
    many = {"radio.fading.coherence_time_s": 1e-4, "radio.medium.truncation": "symbol"}
    prepared = prepare(change(load(SCENARIO), {"allocator.theta": 0.6, **many}))
    medium, link = prepared.scenario.radio.medium, "federated_uplink"
    allocation, channel = prepared.allocation, prepared.channel
    weights = allocation.knobs["weight"]
    payloads = {client: Payload(0, 10_000_000, weight) for client, weight in enumerate(weights)}
    powers = {client: grant.total_tx_power_w for client, grant in enumerate(allocation.grants[link])}
    distortion = medium.superposition(channel, link, 0, payloads, powers).distortion
    found = distortion.uneven.weights[:, :, 0]  # (num_clients, num_blocks)
    assert found.shape[1] > 10_000
    np.testing.assert_allclose(found.mean(axis=1), weights, rtol=0.02)
    assert found.var(axis=1).sum() == pytest.approx(allocation.figures["design_fading"], rel=0.01)
    band_hz = channel.bandwidths_hz(link)
    used = medium.num_subcarriers(band_hz).sum() * medium.subcarrier_spacing_hz / band_hz.sum()
    noise = distortion.noise_std**2 / medium.max_rms**2
    assert noise == pytest.approx(allocation.figures["design_noise"] * used)


def test_a_fixed_rate_is_delivered_as_often_as_the_closed_form_says():
    """The digital side: outage of one efficiency under Rayleigh fading, exp(-threshold / mean gain)."""
    fading = {"kind": "rayleigh_block", "coherence_time_s": 1e-3, "selectivity": "flat"}
    channel = Channel.build(Radio.model_validate({"fading": fading}), 1, 4)
    medium = Fluid(rate="fixed", fixed_spectral_efficiency_bit_per_s_per_hz=6.0)
    link, grant = Link("federated_uplink", "up", "server"), Grant.spread(np.arange(20), 0.01)
    asked = channel, link, 0, grant, 0, 100_000
    delivered = (capacity(*asked) >= medium.rates(*asked)).mean()
    threshold = (2.0**6.0 - 1.0) * channel.noise_psd_w_per_hz * 10e6 / 0.01
    assert delivered == pytest.approx(np.exp(-threshold / channel.mean_gains[0]), abs=0.005)
    assert 0.05 < delivered < 0.95


def test_the_scenario_that_comes_along_names_baselines_that_can_be_played():
    scenario = load(SCENARIO)
    assert not check(scenario)
    places: list[dict[str, float]] = [{}, {"allocator.theta": 0.0}, {"allocator.theta": 1.0}]
    designs = [prepare(change(scenario, one)).allocation for one in places]
    noises = [one.figures["design_noise"] for one in designs]
    assert noises[1] > noises[0] > noises[2]
    np.testing.assert_allclose(designs[1].knobs["weight"], prepare(scenario).task.weights)


def test_what_cannot_be_weighed_is_one_clear_line(tiny_scenario):
    (line,) = check(tiny_scenario({"scheme": {"kind": "split_federated"}, "allocator": {"kind": "biased"}}))
    assert line.startswith("allocator.kind: 'biased' weighs what clients upload, and the scheme reads no")
    with pytest.raises(ScenarioError, match="learning_rate 3 times convexity 1 must be below 2, or the"):
        tiny_scenario({"allocator": {"kind": "biased", "learning_rate": 3.0}})
