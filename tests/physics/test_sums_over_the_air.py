"""Sums over the air have mean and variance of their closed forms, from fading and from noise apart."""

import numpy as np
import pytest
import torch

from cosim.learning.operations.superpose import sent_power, superpose
from cosim.parts import make
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LinkSettings
from cosim.radio.csi import Csi
from cosim.radio.knowledge import known_amplitudes
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.over_the_air import OverTheAir
from cosim.radio.settings import Radio

LINK, NUM_SUBCHANNELS, NUM_VALUES = "federated_uplink", 100, 100_000
RATES = {"rayleigh": {"kind": "rayleigh_block"}, "rician": {"kind": "rician", "k_factor": 2.0}}
POWERS_W, WEIGHTS = (0.1, 0.2, 0.05), (0.5, 0.2, 0.3)
UPDATES = torch.tensor([0.008, -0.006, 0.01], dtype=torch.float64)  # of each client, in each number


def sent(
    num_values=NUM_VALUES, fading="rayleigh", coherence_time_s=1e-4, noise_dbm=-174.0, csi=None, **medium
):
    """Return medium, channel and sum of three clients; each block is shorter than a symbol and a half."""
    radio = Radio.model_validate(
        {
            "fading": {**RATES[fading], "coherence_time_s": coherence_time_s},
            "noise_psd_dbm_per_hz": noise_dbm,
            "csi": csi or {"kind": "perfect"},
            "placement": {"kind": "given", "positions_m": [[900.0, 0.0], [0.0, 1300.0], [700.0, 0.0]]},
            "shadowing": {"kind": "none"},
            "federated_uplink": LinkSettings(num_subchannels=NUM_SUBCHANNELS, bandwidth_hz=1.5e6),
        }
    )
    channel = Channel.build(radio, 3, 5)
    part = OverTheAir(**{"mapping": "real", "truncation": "subchannel", **medium})
    payloads = {client: Payload(0, num_values, weight) for client, weight in enumerate(WEIGHTS)}
    return part, channel, part.superposition(channel, LINK, 0, payloads, dict(enumerate(POWERS_W)))


def received(summed, updates=UPDATES, num_values=NUM_VALUES, seed=1):
    """Return the sum that the server has, number by number."""
    distortion = summed.distortion
    params = {
        "weights": list(distortion.weights.values()),
        "noise_std": distortion.noise_std,
        "max_rms": distortion.max_rms,
        "seed": seed,
    }
    if distortion.uneven is not None:
        params |= {"uneven": distortion.uneven.params(), "order_seed": 2}
    begin = {"x": torch.zeros(num_values, dtype=torch.float64)}
    senders = [{"x": updates[client] * torch.ones_like(begin["x"])} for client in distortion.weights]
    return superpose.body(None, params, begin, *senders)["adapter"]["x"].numpy()


def closed_form(part, channel):
    """Return amplitudes while sending and in the mean, root W a subcarrier: card 1, by its own search."""
    gains = channel.mean_gains * np.array(POWERS_W) / NUM_SUBCHANNELS
    threshold = 10 ** (part.truncation_db / 10)

    def mean_amplitude(level):
        return np.sqrt(level) * channel.radio.fading.exceeding(level)

    tried = np.linspace(0.0, threshold, 20_001)
    weakest = min(np.sqrt(gains) * mean_amplitude(threshold) / np.array(WEIGHTS))
    wanted = weakest * np.array(WEIGHTS) / np.sqrt(gains)
    levels = np.interp(wanted, mean_amplitude(tried), tried)
    return np.sqrt(gains * levels), weakest


@pytest.mark.parametrize("fading", RATES)
def test_truncated_inversion_is_unbiased_and_varies_by_fading_as_the_closed_form_says(fading):
    part, channel, summed = sent(
        fading=fading, noise_dbm=-300.0, precoding={"kind": "truncated_inversion"}, truncation_db=-3.0103
    )
    amplitudes, total = closed_form(part, channel)
    weights, updates = np.array(WEIGHTS), UPDATES.numpy()
    found = received(summed)
    assert found.mean() == pytest.approx(weights @ updates, abs=0.01 * weights @ np.abs(updates))
    # sum of p (gamma / alpha - p) g^2
    by_fading = (weights * (amplitudes / total - weights)) @ updates**2
    assert found.var() == pytest.approx(by_fading, rel=0.01)
    per_client = [received(summed, updates=np.eye(3)[client] * 0.01).mean() for client in range(3)]
    np.testing.assert_allclose(per_client, 0.01 * weights, rtol=0.01)


@pytest.mark.parametrize("mapping", ["real", "complex"])
def test_the_noise_of_truncated_inversion_is_as_the_closed_form_says(mapping):
    part, channel, summed = sent(
        precoding={"kind": "truncated_inversion"}, truncation_db=-3.0103, mapping=mapping, max_rms=0.01
    )
    total = closed_form(part, channel)[1]
    noise = received(summed) - received(summed, seed=None)
    # N0 / 2 on a number; a number has all the energy of an element, or half of it
    noise_w = channel.noise_psd_w_per_hz * part.subcarrier_spacing_hz / 2.0
    numbers = {"real": 1, "complex": 2}[mapping]
    assert noise.var() == pytest.approx(numbers * 0.01**2 * noise_w / total**2, rel=0.01)
    assert summed.distortion.noise_std**2 == pytest.approx(numbers * 0.01**2 * noise_w / total**2)


def test_zero_forcing_has_no_fading_term_and_the_noise_of_the_weakest_for_its_weight():
    part, channel, summed = sent(truncation_db=-400.0, truncation="transmission")
    quiet = received(summed, seed=None)
    np.testing.assert_allclose(quiet, np.array(WEIGHTS) @ UPDATES.numpy(), rtol=1e-12)
    of_symbol = part.symbol_ns * np.arange(NUM_VALUES // NUM_SUBCHANNELS) // channel.block_ns
    gains = np.stack([channel.gains(LINK, client, 0, of_symbol[-1] + 1)[of_symbol] for client in range(3)])
    gains = 1.0 / (1.0 / gains).mean(axis=(1, 2))
    factor = min(np.array(POWERS_W) / NUM_SUBCHANNELS * gains / np.array(WEIGHTS) ** 2)
    noise_w = channel.noise_psd_w_per_hz * part.subcarrier_spacing_hz / 2.0
    assert (received(summed) - quiet).var() == pytest.approx(0.01**2 * noise_w / factor, rel=0.01)


@pytest.mark.parametrize("num_pilots", [1, 10**9])
def test_what_is_inverted_by_an_estimate_arrives_with_its_amplitude_and_phase(num_pilots):
    csi = {"kind": "estimated", "num_pilots": num_pilots}
    _, channel, summed = sent(
        csi=csi, coherence_time_s=1.0, mapping="complex", truncation_db=-400.0, truncation="transmission"
    )
    known = known_amplitudes(channel, LINK, 0, np.array(POWERS_W))
    truth = np.sqrt(np.stack([channel.gains(LINK, client, 0, 1)[0] for client in range(3)]))
    factors = truth / known  # (3, 100), complex
    found = np.array(list(summed.distortion.weights.values()))
    np.testing.assert_allclose(found, np.array(WEIGHTS) * factors.real.mean(axis=1), rtol=1e-9)
    assert received(summed, seed=None).mean() == pytest.approx(found @ UPDATES.numpy(), rel=1e-9)
    power = received(summed, seed=None).reshape(-1)
    together = (np.array(WEIGHTS) * UPDATES.numpy()) @ factors
    assert (power**2).mean() == pytest.approx((np.abs(together) ** 2).mean(), rel=1e-9)
    if num_pilots > 1:
        np.testing.assert_allclose(found, WEIGHTS, rtol=1e-3)
    else:
        assert np.abs(found / WEIGHTS - 1.0).max() > 0.01
    for client, tx_power_w in summed.tx_power_w.items():
        assert tx_power_w <= POWERS_W[client] * (1.0 + 1e-9)


def test_pilots_and_reports_of_what_is_known_go_before_a_sum():
    csi = make(Csi, {"kind": "chain", "steps": [{"kind": "estimated"}, {"kind": "quantised"}]})
    part, widths_hz = OverTheAir(), np.full(4, 180e3)
    more_ns = part.summed_ns(widths_hz, 500, 3, csi) - part.summed_ns(widths_hz, 500, 3)
    asked_ns = 3 * (csi.pilots_ns + csi.report_ns(4))
    assert 0 <= more_ns - asked_ns < part.symbol_ns
    assert part.pilot_s(widths_hz, csi) == pytest.approx((csi.pilots_ns + csi.report_ns(4)) / 1e9)


def test_truncating_each_subchannel_renormalises_over_those_who_send():
    summed = sent(truncation_db=-1.0)[2]
    alone = np.stack([received(summed, 0.01 * np.eye(3)[client], seed=None) for client in range(3)]) / 0.01
    sums = alone.sum(axis=0)
    is_heard = sums > 0.5
    np.testing.assert_allclose(sums[is_heard], 1.0, rtol=1e-12)
    chances = np.exp(-(10**-0.1))
    assert (alone > 0.0).mean() == pytest.approx(chances, rel=0.01)
    assert is_heard.mean() == pytest.approx(1.0 - (1.0 - chances) ** 3, rel=0.01)
    assert not np.abs(received(summed)[~is_heard]).any()


def test_at_full_power_weights_are_the_shares_of_amplitudes():
    _, channel, summed = sent(precoding={"kind": "full_power"}, coherence_time_s=None, num_values=200)
    gains = np.stack([channel.gains(LINK, client, 0, 1)[0] for client in range(3)])
    amplitudes = np.sqrt(np.array(POWERS_W)[:, None] * gains)
    shares = (amplitudes / amplitudes.sum(axis=0)).mean(axis=1)
    np.testing.assert_allclose(list(summed.distortion.weights.values()), shares)
    np.testing.assert_allclose(list(summed.tx_power_w.values()), POWERS_W)


@pytest.mark.parametrize("uneven", [False, True])
def test_without_noise_and_with_equal_weights_the_sum_is_the_digital_average(uneven):
    chance = torch.Generator().manual_seed(3)
    names = {"a": (40, 5), "b": (7,)}
    begin, *senders = (
        {name: torch.randn(shape, generator=chance, dtype=torch.float64) for name, shape in names.items()}
        for _ in range(5)
    )
    params = {"weights": [0.25] * 4, "noise_std": 0.0, "max_rms": 1e3, "seed": None}
    if uneven:
        grid = {"numbers_per_element": 2, "subcarriers": [3, 4], "symbols": [6, 9], "turns": []}
        grid |= {"weights": [[[0.25] * 2] * 2] * 4, "noise_std": [[0.0] * 2] * 2}
        params |= {"uneven": grid, "order_seed": 1}
    found = superpose.body(None, params, begin, *senders)["adapter"]
    for name in names:
        mean = torch.stack([one[name] for one in senders]).mean(dim=0)
        torch.testing.assert_close(found[name], mean, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("mapping", ["real", "complex"])
def test_what_is_off_in_time_and_frequency_turns_in_phase(mapping):
    part, _, summed = sent(
        num_values=1000,
        coherence_time_s=None,
        truncation_db=-400.0,
        truncation="transmission",
        mapping=mapping,
        timing_error_s=1e-6,
        frequency_error_hz=200.0,
    )
    uneven, per_element = summed.distortion.uneven, part.numbers_per_element
    drawn = np.array(uneven.turns)
    assert drawn.shape == (3, 2)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(2)).numpy()
    chance = np.random.default_rng(4)
    values = chance.normal(size=(3, 1000)) * 1e-3
    element = np.arange(1000 // per_element)
    symbol, subcarrier = np.divmod(element, NUM_SUBCHANNELS)
    arrived = np.zeros(1000 // per_element, dtype=complex)
    for client, (a_symbol, a_subcarrier) in enumerate(drawn):
        laid = values[client][order].reshape(-1, per_element) @ np.array([1.0, 1j][:per_element])
        phase = 2.0 * np.pi * (a_symbol * symbol + a_subcarrier * (subcarrier - (NUM_SUBCHANNELS - 1) / 2))
        arrived += WEIGHTS[client] * laid * np.exp(1j * phase)
    expected = np.zeros(1000)
    expected[order] = arrived.real if per_element == 1 else np.stack([arrived.real, arrived.imag], 1).ravel()
    found = received(summed, updates=[torch.from_numpy(one) for one in values], num_values=1000, seed=None)
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert np.abs(drawn[:, 0]).max() < 4 * 200.0 * part.symbol_ns / 1e9
    assert np.abs(drawn[:, 1]).max() < 4 * 1e-6 * 15e3


def test_what_an_update_radiates_is_its_mean_square_up_to_the_clip():
    begin = {"a": torch.zeros(50), "b": torch.zeros(50)}
    sender = {"a": torch.full((50,), 0.03), "b": torch.zeros(50)}
    shares = [sent_power.body(None, {"max_rms": most}, begin, sender)["share"] for most in (1.0, 0.03, 0.01)]
    assert shares == pytest.approx([0.03**2 / 2, 0.5, 1.0])


@pytest.mark.parametrize("mapping", ["real", "complex"])
def test_airtime_is_symbols_of_numbers_whoever_sends(mapping):
    part = OverTheAir(mapping=mapping, subcarrier_spacing_hz=30e3, cyclic_prefix_s=2e-6)
    widths_hz = np.array([1e6, 2e6])
    num_symbols = -(-7001 // (part.numbers_per_element * (33 + 66)))
    assert part.summed_ns(widths_hz, 7001, 3) == num_symbols * round(1e9 / 30e3 + 2000)
