"""Sums over the air: airtime, power, weights and noise as the equations say; everything else drains."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.kernel.clock import Clock
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LinkSettings
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.over_the_air import OverTheAir
from cosim.radio.settings import Radio
from cosim.record.log import Log
from cosim.units import NS_PER_S

LINK = Link("federated_uplink", "up", "server", takes_sums=True)
OTHER = Link("main_uplink", "up", "server")
FADINGS = st.sampled_from(
    [
        {"kind": "none"},
        {"kind": "rayleigh_block"},
        {"kind": "rayleigh_block", "coherence_time_s": 2e-4},
        {"kind": "rician", "k_factor": 3.0, "coherence_time_s": 1e-3, "selectivity": "flat"},
    ]
)


def built(num_clients, fading=None, seed=1, **medium):
    """Return a medium alive, with a power of 0.1 W granted to every client."""
    radio = Radio.model_validate(
        {"fading": fading or {"kind": "none"}, "federated_uplink": LinkSettings(num_subchannels=5)}
    )
    clock, log, part = Clock(), Log(), OverTheAir(**medium)
    channel = Channel.build(radio, num_clients, seed)
    network = part.open(clock, channel, Orthogonal(), log.grants, [LINK, OTHER])
    grants = {client: Grant.spread(np.arange(5), 0.1) for client in range(num_clients)}
    network.grant(LINK.name, grants, 1)
    network.grant(OTHER.name, {client: Grant.spread(np.array([client % 5]), 0.1) for client in grants}, 1)
    return SimpleNamespace(clock=clock, log=log, part=part, channel=channel, network=network)


def send(air, payloads, at_ns=0, link=LINK):
    """Return what becomes of one transmission."""
    found = []

    def scheme():
        yield air.clock.timeout(at_ns)
        found.append((yield from air.network.send(link.name, payloads)))
        air.network.leave(link.name, list(payloads), 0)

    air.clock.run(air.clock.process(scheme(), "the scheme"))
    return found[0]


def payloads(num_clients, num_values=5000, weights=None):
    weights = weights or [1.0 / num_clients] * num_clients
    return {client: Payload(32 * num_values, num_values, weights[client]) for client in range(num_clients)}


def test_airtime_is_symbols_of_two_numbers_a_subcarrier_whoever_sends():
    lasting = set()
    for num_clients in (1, 3, 7):
        air = built(num_clients)
        delivery = send(air, payloads(num_clients))
        lasting.add(delivery.end_ns - delivery.start_ns)
    num_subcarriers = 5 * int(2e6 // 15e3)
    assert lasting == {-(-5000 // (2 * num_subcarriers)) * round(1e9 / 15e3 + 4687.5)}


def test_a_sum_begins_at_a_symbol_edge_and_the_next_one_after_it():
    air = built(2)
    symbol_ns = air.part.symbol_ns
    found = []

    def one(at_ns, client):
        yield air.clock.timeout(at_ns)
        found.append((yield from air.network.send(LINK.name, {client: payloads(2)[client]})))
        air.network.leave(LINK.name, [client], 40 + client)

    started = [air.clock.process(one(7 + client, client), f"client {client}") for client in range(2)]
    air.clock.run(air.clock.all_of(started))
    first, second = found
    assert (first.asked_ns, first.start_ns, first.after_span) == (7, symbol_ns, None)
    assert (second.asked_ns, second.start_ns, second.after_span) == (8, first.end_ns, 40)
    assert first.distortion.stream != second.distortion.stream


@settings(deadline=None, max_examples=40)
@given(
    fading=FADINGS,
    num_clients=st.integers(1, 6),
    shares=st.lists(st.floats(0.05, 1.0), min_size=6, max_size=6),
    truncation_db=st.sampled_from([-400.0, -10.0, -1.0]),
    seed=st.integers(0, 50),
)
def test_power_energy_weights_and_noise_keep_to_the_equations(
    fading, num_clients, shares, truncation_db, seed
):
    air = built(num_clients, fading, seed, truncation_db=truncation_db)
    given_weights = [share / sum(shares[:num_clients]) for share in shares[:num_clients]]
    delivery = send(air, payloads(num_clients, weights=given_weights), at_ns=123)
    airtime_s = (delivery.end_ns - delivery.start_ns) / NS_PER_S
    weights, noise_std = delivery.distortion.weights, delivery.distortion.noise_std
    assert {client for client, is_heard in delivery.delivered.items() if is_heard} == set(weights)
    powers = {client: energy / airtime_s for client, energy in delivery.energy_j.items()}
    assert all(power <= 0.1 * (1 + 1e-9) for power in powers.values())
    assert all(power == 0.0 for client, power in powers.items() if client not in weights)
    if not weights:
        return
    assert sum(weights.values()) == pytest.approx(1.0)
    total = sum(given_weights[client] for client in weights)
    assert weights == pytest.approx({client: given_weights[client] / total for client in weights})
    assert max(powers.values()) == pytest.approx(0.1)  # somebody sets the common amplitude
    for client, weight in weights.items():  # received, all have one amplitude for each unit of weight
        gains = _gains_of_numbers(air, delivery, client)
        received_w = powers[client] / (np.mean(1.0 / gains) * 5 * 133 * weight**2)
        noise_w = air.channel.noise_psd_w_per_hz * 15e3
        assert noise_std == pytest.approx(0.01 * np.sqrt(noise_w / received_w))


def _gains_of_numbers(air, delivery, client):
    """Return the gain of each symbol and subchannel of a transmission."""
    begins_ns = range(delivery.start_ns, delivery.end_ns, air.part.symbol_ns)
    return np.concatenate(
        [air.channel.gains(LINK.name, client, air.channel.block_at(at), 1) for at in begins_ns]
    )


def test_who_is_in_a_deep_fade_is_silent_and_radiates_nothing():
    fading = {"kind": "rayleigh_block", "coherence_time_s": 0.01, "selectivity": "flat"}
    air = built(40, fading, truncation_db=-3.0)
    delivery = send(air, payloads(40))
    fades = air.channel.gain_at(LINK.name, 0)[:, 0] / air.channel.mean_gains
    assert list(delivery.delivered.values()) == (fades >= 10**-0.3).tolist()
    assert 0 < sum(delivery.delivered.values()) < 40


def test_if_all_are_silent_nothing_arrives_and_time_passes():
    air = built(2)
    air.network.grant(LINK.name, {client: Grant.spread(np.arange(5), 0.0) for client in range(2)}, 1)
    delivery = send(air, payloads(2))
    assert delivery.end_ns > delivery.start_ns
    assert not any(delivery.delivered.values())
    assert set(delivery.energy_j.values()) == {0.0}


def test_other_links_carry_bits_and_have_one_owner():
    air = built(2)
    delivery = send(air, {1: Payload(10**6)}, link=OTHER)
    rate = air.channel.rates(OTHER.name, 1, np.array([1]), np.array([0.1]), 0, 1)[0]
    assert delivery.end_ns == pytest.approx(1e15 / rate, abs=2)
    assert delivery.distortion is None
    assert set(air.log.grants.link) == {OTHER.name}


def test_subcarriers_wider_than_a_subchannel_do_not_fit():
    medium, widths_hz = OverTheAir(subcarrier_spacing_hz=3e6), np.array([1e6, 1e6])
    assert medium.misfit(LINK, widths_hz).startswith("no subcarrier of 3e+06 Hz fits into a subchannel of")
    assert medium.misfit(LINK, 3.0 * widths_hz) is None
    assert medium.misfit(OTHER, widths_hz) is None
