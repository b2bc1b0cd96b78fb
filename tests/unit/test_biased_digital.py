"""Biased weights of updates sent as bits: the design, what arrives of it, and the average of that."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
import torch

from cosim.control.solvers.biased_digital import THRESHOLDS, Slots
from cosim.explain import explain
from cosim.learning.codec import Layout
from cosim.learning.federated_state import FederatedState
from cosim.learning.payload import upload_layout
from cosim.learning.training import Training
from cosim.learning.update.quantise import Quantise
from cosim.radio.link import Link
from cosim.radio.medium import capacity
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import check, prepare

UPLINK = "federated_uplink"
FIXED = {
    "kind": "fluid",
    "rate": "fixed",
    "fixed_spectral_efficiency_bit_per_s_per_hz": 1.0,
    "outage": "silent",
}
DIGITAL = {
    "scheme": {
        "kind": "federated",
        "num_rounds": 2,
        "local_steps": 1,
        "update": [{"kind": "clip"}, {"kind": "quantise", "bucket_size": 100_000, "rounding": "dithered"}],
    },
    "radio.medium": FIXED,
    "radio.shadowing": {"kind": "none"},
    "radio.placement": {"kind": "given", "positions_m": [[300.0, 0.0], [0.0, 900.0], [-1400.0, 0.0]]},
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1.0, "selectivity": "flat"},
    "allocator": {"kind": "biased_digital", "airtime_s": 0.001},
}
SNR = np.array([30.0, 0.5])
WIDTHS = np.arange(2, 9)


def slots(airtime_s):
    speeds = 5e6 * np.log2(1.0 + SNR[:, None] * THRESHOLDS)
    errors = 36.0 / (12.0 * (2.0 ** (WIDTHS - 1) - 1.0) ** 2)
    return Slots(speeds, np.array([0.5, 0.5]), airtime_s, 32.0 + 8192.0 * WIDTHS, errors)


def test_no_slot_is_longer_than_gains_hold():
    free = slots(1.0).design(1.0, 1.0)
    longest_s = (free.slots_s / free.rates).max()
    limited = replace(slots(1.0), block_s=0.5 * longest_s)
    found = limited.design(1.0, 1.0)
    assert (found.slots_s / found.rates <= 0.5 * longest_s * (1.0 + 1e-12)).all()
    same = replace(limited, block_s=1.01 * longest_s).design(1.0, 1.0)
    assert same.widths.tolist() == free.widths.tolist()
    assert same.speeds.tolist() == free.speeds.tolist()


@pytest.mark.parametrize("dissimilarity", [0.0, 0.3, 3.0, np.inf])
@pytest.mark.parametrize("airtime_s", [3e-3, 0.02, 1.0])
def test_the_optimum_is_within_a_percent_of_a_fine_grid(dissimilarity, airtime_s):
    made, bias = slots(airtime_s), min(2.0 * dissimilarity**2, 1e12)
    found = made.design(bias, 1.0) if np.isfinite(dissimilarity) else made.design(1.0, 0.0)
    assert found.slots_s.sum() <= airtime_s
    assert found.weights.sum() == pytest.approx(1.0)
    value = (
        bias * ((found.weights - 0.5) ** 2).sum()
        + (found.weights**2 * (found.by_outage + found.by_rounding)).sum()
    )
    thresholds = np.geomspace(2e-3, 4.9, 90)
    shape = (len(thresholds), len(WIDTHS))
    often = np.exp(thresholds)[:, None]
    variance = np.broadcast_to(often - 1.0 + often * made.errors, shape).ravel()
    costs_s = [(made.bits / (often * 5e6 * np.log2(1.0 + snr * thresholds)[:, None])).ravel() for snr in SNR]
    fits = costs_s[0][:, None] + costs_s[1] <= airtime_s  # every pair of slots
    first, second = (np.broadcast_to(one, fits.shape)[fits] for one in (variance[:, None], variance))
    # the weight of the first, where the slope of the bound is zero
    weight = (bias + second) / (2.0 * bias + first + second)
    grid = 2.0 * bias * (weight - 0.5) ** 2 + weight**2 * first + (1.0 - weight) ** 2 * second
    assert value <= 1.01 * grid.min()


def test_without_bias_weights_are_those_of_the_data_and_variance_falls_with_the_airtime():
    designs = [slots(airtime_s).design(1.0, 0.0) for airtime_s in (3e-3, 0.01, 0.1, 1.0)]
    for one in designs:
        np.testing.assert_allclose(one.weights, 0.5)
    variances = [float((one.by_outage + one.by_rounding).sum()) for one in designs]
    assert sorted(variances, reverse=True) == variances


@pytest.fixture(scope="module")
def prepared(tiny_scenario):
    return prepare(tiny_scenario({**DIGITAL, "radio.fading.coherence_time_s": 2e-3}))


def test_each_client_is_delivered_as_often_as_was_designed(prepared):
    """Outage of its own efficiency under Rayleigh fading: exp(-threshold / mean gain)."""
    channel, allocation, medium = prepared.channel, prepared.allocation, prepared.scenario.radio.medium
    link = Link(UPLINK, "up", "server")
    band_hz = float(channel.bandwidths_hz(UPLINK).sum())
    rates = allocation.knobs["delivery_rate"]
    assert min(rates) < 0.5 < max(rates)
    for client, grant in enumerate(allocation.grants[UPLINK]):
        efficiency = allocation.knobs["spectral_efficiency"][client]
        threshold = (2.0**efficiency - 1.0) * channel.noise_psd_w_per_hz * band_hz / grant.total_tx_power_w
        assert np.exp(-threshold / channel.mean_gains[client]) == pytest.approx(rates[client])
        asked = channel, link, client, grant, 0, 40_000
        delivered = (capacity(*asked) >= medium.rates(*asked)).mean()
        assert delivered == pytest.approx(rates[client], abs=4.0 * 0.5 / 200.0)


def test_what_is_quantised_varies_as_was_designed(prepared):
    numbers = torch.linspace(-1.0, 1.0, 2000, dtype=torch.float64)
    layout = Layout({"x": (2000,)}, 64)
    step = Quantise(bits=4, bucket_size=100_000, rounding="dithered")
    applied = step.apply({"x": numbers}, stream(1, "x"))
    received = step.restore(applied.numbers, applied.packed, layout, stream(1, "x"))["x"]
    crest = float(numbers.abs().max() / numbers.square().mean().sqrt())
    expected = crest**2 / (12.0 * (2.0**3 - 1.0) ** 2) * float(numbers.square().sum())
    assert float((received - numbers).square().sum()) == pytest.approx(expected, rel=0.06)


def test_the_server_divides_by_how_often_a_client_arrives_and_does_not_renormalise(prepared):
    task = prepared.task
    federation = FederatedState(Training(task, task.shape.num_layers, 4), "whole")
    federation.weights.decide({0: 0.5, 1: 0.3, 2: 0.2}, {0: 1.0, 1: 0.5, 2: 0.1})
    for arrived, weights in (((0, 1), [0.5, 0.6, -0.1]), ((2,), [2.0, -1.0])):
        node = federation.average({one: federation.upload(one, 1) for one in arrived}, 1)
        assert node.params["weights"] == pytest.approx(weights)
        assert node.inputs[-1] == federation.reference(0, 1)  # what all began from
    sent = np.random.default_rng(1).random((100_000, 3)) < [1.0, 0.5, 0.1]
    np.testing.assert_allclose((sent * [0.5, 0.6, 2.0]).mean(axis=0), [0.5, 0.3, 0.2], rtol=0.03)


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory):
    # so short a coherence time that some are silent and some lost on the way
    scenario = tiny_scenario({**DIGITAL, "scheme.num_rounds": 12, "radio.fading.coherence_time_s": 2e-3})
    return Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run", timing_only=True))


def test_clients_send_their_own_widths_at_their_own_rates_in_slots_of_their_own(record, prepared):
    knobs, task = prepared.allocation.knobs, prepared.task
    count = upload_layout(task, task.shape.num_layers, prepared.allocation.lora_rank, 1).num_numbers
    band_hz = float(prepared.channel.bandwidths_hz(UPLINK).sum())
    uploads = [one for one in record.spans.to_pylist() if one["name"] == "adapter_upload"]
    assert len({one["delivered"] for one in uploads}) == 2
    for one in uploads:
        client = int(one["actor"].removeprefix("client-"))
        assert one["bits"] == 32 + count * knobs["quantisation_bits"][client]
        lasted_ns = one["end_ns"] - one["start_ns"]
        if lasted_ns == 0:  # silent
            assert (one["delivered"], one["energy_j"]) == (False, 0.0)
            continue
        speed = Fraction(knobs["spectral_efficiency"][client] * band_hz)
        assert lasted_ns == pytest.approx(ceil(one["bits"] / speed * 10**9), abs=1)
    slots_ns = sorted((one["start_ns"], one["end_ns"]) for one in uploads)
    assert all(first[1] <= second[0] for first, second in pairwise(slots_ns))


def test_the_decision_is_recorded_client_by_client(record, prepared):
    rows = record.metrics.to_pylist()
    for name, values in prepared.allocation.knobs.items():
        noted = {row["actor"]: row["value"] for row in rows if row["name"] == name}
        assert [noted[f"client-{client}"] for client in range(3)] == pytest.approx(list(values))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"allocator.airtime_s": 1e-9},
            "allocator.airtime_s: 1e-09 s is too short: even where clients send in",
        ),
        (
            {"radio.fading.coherence_time_s": 1e-6},
            "radio.fading.coherence_time_s: gains hold for 1e-06 s, and the shortest slot of a client takes",
        ),
        ({"scheme.update": []}, "allocator.kind: 'biased_digital' says with how many bits clients quantise"),
        (
            {"radio.medium": {"kind": "fluid"}},
            "allocator.kind: 'biased_digital' gives each client a rate, and",
        ),
        ({"scheme.aggregator": {"kind": "flora"}}, "allocator.kind: 'biased_digital' has the server average"),
        ({"scheme": {"kind": "centralized"}}, "allocator.kind: 'biased_digital' weighs what clients upload"),
    ],
)
def test_what_cannot_be_designed_is_one_clear_line(changes, message, tiny_scenario):
    (line,) = check(tiny_scenario({**DIGITAL, **changes}))
    assert line.startswith(message)
    assert "\n" not in line


def test_explain_finds_the_rate_that_was_decided_and_who_was_silent(record):
    uploads = [one for one in record.spans.to_pylist() if one["name"] == "adapter_upload"]
    for is_silent in (False, True):
        one = next(one for one in uploads if (one["start_ns"] == one["end_ns"]) == is_silent)
        found = explain(record, one["id"])
        assert (found.is_silent, found.expected_end_ns) == (is_silent, one["end_ns"])
