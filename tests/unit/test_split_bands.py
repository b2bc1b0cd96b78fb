"""A band that is split: channels of any width, what they carry, and that they fit."""

from dataclasses import replace

import numpy as np
import pytest

from cosim.control.closed_form import link_rates
from cosim.control.decision import Allocation
from cosim.errors import AllocationError
from cosim.kernel.clock import Clock
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LinkSettings
from cosim.radio.fading.rayleigh_block import RayleighBlock
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.draining import Draining
from cosim.radio.medium.fluid import Fluid
from cosim.radio.settings import Radio
from cosim.record.log import Log
from cosim.record.tables import grants_table
from cosim.testing.strategies import random_cell
from cosim.units import drain_ns

LINK = "federated_uplink"


def part(number: int, width_hz: float, power_w: float = 0.1) -> Grant:
    return Grant(np.array([number]), np.array([power_w]), np.array([width_hz]))


@pytest.fixture
def cell() -> Channel:
    link = LinkSettings(num_subchannels=3, bandwidth_hz=3e6)
    return Channel.build(
        Radio(federated_uplink=link, fading=RayleighBlock(coherence_time_s=1e-3)), num_clients=2, seed=4
    )


def test_a_split_channel_sees_the_mean_of_the_gains_at_its_own_width(cell: Channel) -> None:
    rates = cell.rates(LINK, 1, np.array([2]), np.array([0.1]), 0, 5, np.array([7e5]))
    gains = cell.gains(LINK, 1, 0, 5).mean(axis=1)
    snr = 0.1 / 7e5 * gains / cell.noise_psd_w_per_hz
    assert rates == pytest.approx(7e5 * np.log2(1.0 + snr), rel=1e-12)


def test_the_budget_of_a_split_channel_has_its_rate(cell: Channel) -> None:
    budget = cell.budget(LINK, 0, 1, 0.1, 2_500_000, split_hz=4e5)
    rate = cell.rates(LINK, 0, np.array([1]), np.array([0.1]), 2, 1, np.array([4e5]))[0]
    assert budget.rate_bit_per_s == pytest.approx(rate, rel=1e-12)
    assert budget.bandwidth_hz == 4e5


def test_a_transfer_over_a_split_channel_lasts_as_its_rates_say_and_its_width_is_recorded(
    cell: Channel,
) -> None:
    clock, log = Clock(), Log()
    air = Draining(clock, cell, Orthogonal(), log.grants, [Link(LINK, "up", "server")], Fluid())
    air.grant(LINK, {0: part(0, 2.5e6), 1: part(1, 5e5)}, 1)

    def sends():
        airtime = yield from air.send(LINK, {0: Payload(1000)})
        air.leave(LINK, [0], 0)
        return airtime

    transfer = clock.process(sends(), "a transfer")
    clock.run(transfer)
    rate = cell.rates(LINK, 0, np.array([0]), np.array([0.1]), 0, 1, np.array([2.5e6]))[0]
    assert transfer.value.end_ns == drain_ns(1000, rate)
    table = grants_table(log.grants)
    assert table["bandwidth_hz"].to_pylist() == [2.5e6, 5e5]
    air.grant(LINK, {0: part(0, 2.0e6), 1: part(1, 5e5)}, 2)
    assert grants_table(log.grants)["bandwidth_hz"].to_pylist() == [2.5e6, 5e5, 2.0e6]
    air.grant(LINK, {0: Grant.spread(np.array([0]), 0.1), 1: part(1, 5e5)}, 3)
    assert grants_table(log.grants)["bandwidth_hz"].to_pylist()[-1] is None


def test_allocators_predict_the_rate_of_split_channels() -> None:
    link = random_cell(3, num_clients=2, num_subchannels=4).links[LINK]
    rates = link_rates(link, (part(0, 3e4), part(1, 5e4)))
    assert rates[1] == pytest.approx(
        link.rate.rates(
            np.array([0.1 / 5e4 * link.gains[1].mean() / link.noise_psd_w_per_hz]), np.array([5e4])
        )
    )


def test_split_channels_must_fit_into_the_band() -> None:
    state = random_cell(3, num_clients=2, num_subchannels=4, has_sum_limit=False)
    state = replace(state, links={LINK: state.links[LINK]})
    band = float(state.links[LINK].bandwidths_hz.sum())

    def check(*widths: float) -> None:
        grants = tuple(part(number, width, 0.01) for number, width in enumerate(widths))
        Allocation({LINK: grants}, state.cut_layer, 4).check(state, shares_in_time=False)

    check(0.25 * band, 0.75 * band)
    with pytest.raises(AllocationError, match="wide together; the link has"):
        check(0.5 * band, 0.5001 * band)
    with pytest.raises(AllocationError, match="client 1 is given the widths"):
        check(0.5 * band, 0.0)


def test_grants_are_equal_in_every_number_or_not_at_all() -> None:
    assert part(0, 1e5).equals(part(0, 1e5))
    assert not part(0, 1e5).equals(part(0, 2e5))
    assert not part(0, 1e5).equals(Grant(np.array([0]), np.array([0.1])))
