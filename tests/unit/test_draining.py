"""The air: who sends on what, when; and no bit lost however the grants change under way."""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import StalledError
from cosim.kernel.clock import Clock
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.access.reassign import Reassign
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LinkSettings
from cosim.radio.fading.none import NoFading
from cosim.radio.fading.rayleigh_block import RayleighBlock
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.draining import Draining
from cosim.radio.medium.fluid import Fluid
from cosim.radio.settings import Radio
from cosim.radio.shadowing.none import NoShadowing
from cosim.record.log import Log
from cosim.units import NS_PER_S, drain_ns

LINK = "main_uplink"
NUM_SUBCHANNELS = 6


def built(num_clients, access=None, fading=None, seed=1):
    """Return a cell alive: clock, log, cell and air."""
    radio = Radio(
        shadowing=NoShadowing(),
        fading=fading or NoFading(),
        main_uplink=LinkSettings(num_subchannels=NUM_SUBCHANNELS, bandwidth_hz=6e6),
    )
    clock, log = Clock(), Log()
    cell = Channel.build(radio, num_clients, seed)
    air = Draining(clock, cell, access or Orthogonal(), log.grants, [Link(LINK, "up", "server")], Fluid())
    return SimpleNamespace(clock=clock, log=log, cell=cell, air=air, airtimes={}, num_spans=0)


def round_robin(num_clients, power_w=0.1):
    return {
        client: Grant.spread(np.arange(client, NUM_SUBCHANNELS, num_clients), power_w)
        for client in range(num_clients)
    }


def whole_band(num_clients, power_w=0.1):
    return {client: Grant.spread(np.arange(NUM_SUBCHANNELS), power_w) for client in range(num_clients)}


def sender(cell, client, transfers):
    """Send one after the other; ``transfers`` are (pause before, bits)."""
    for number, (pause_ns, bits) in enumerate(transfers):
        yield cell.clock.timeout(pause_ns)
        airtime = yield from cell.air.send(LINK, {client: Payload(bits)})
        cell.airtimes[client, number] = airtime
        cell.air.leave(LINK, [client], cell.num_spans)
        cell.num_spans += 1


def play(cell, transfers):
    """Play a list of transfers for each client side by side."""

    def scheme():
        started = [
            cell.clock.process(sender(cell, client, some), f"client-{client}")
            for client, some in enumerate(transfers)
        ]
        yield cell.clock.all_of(started)

    cell.clock.run(cell.clock.process(scheme(), "the scheme"))
    return cell.airtimes


def owners_over_time(log):
    """Return, for each subchannel, (from, until, client, power), from the recorded grants alone."""
    rows = defaultdict(list)
    grants = log.grants
    for at, number, client, power in zip(
        grants.time_ns, grants.subchannel, grants.client, grants.tx_power_w, strict=True
    ):
        rows[number].append((at, int(client.removeprefix("client-") or -1), power))
    return {
        number: [
            (at, later, client, power)
            for (at, client, power), (later, _, _) in pairwise([*some, (None, None, None)])
        ]
        for number, some in rows.items()
    }


def bits_of_grants(cell, client, airtime):
    """Integrate the rates of what the client held while it sent, from the recorded grants alone."""
    periods = defaultdict(dict)
    edges = {airtime.start_ns, airtime.end_ns}
    if cell.cell.block_ns is not None:
        first = airtime.start_ns // cell.cell.block_ns + 1
        edges.update(range(first * cell.cell.block_ns, airtime.end_ns, cell.cell.block_ns))
    held = [
        (number, *period)
        for number, periods_ in owners_over_time(cell.log).items()
        for period in periods_
        if period[2] == client
    ]
    for _, begin, end, _, _ in held:
        edges.update(at for at in (begin, end) if at and airtime.start_ns < at < airtime.end_ns)
    for begin, end in pairwise(sorted(edges)):
        for number, since, until, _, power in held:
            if since <= begin and (until is None or until >= end):
                periods[begin, end][number] = power
    total = 0.0
    for (begin, end), powers in periods.items():
        numbers = np.array(sorted(powers))
        rate = cell.cell.rates(
            LINK, client, numbers, np.array([powers[n] for n in numbers]), cell.cell.block_at(begin), 1
        )[0]
        total += float(rate) * (end - begin) / NS_PER_S
    return total


TRANSFERS = st.lists(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**7)), max_size=3), min_size=1, max_size=4
)
FADINGS = st.sampled_from([NoFading(), RayleighBlock(), RayleighBlock(coherence_time_s=0.003)])


# Orthogonal


def test_a_transfer_takes_its_bits_over_the_rate_of_its_grant():
    cell = built(2)
    grants = round_robin(2)
    cell.air.grant(LINK, grants, 1)
    airtimes = play(cell, [[(0, 10**6)], [(5, 10**5)]])
    for client, (pause, bits) in enumerate([(0, 10**6), (5, 10**5)]):
        grant = grants[client]
        rate = float(cell.cell.rates(LINK, client, grant.subchannels, grant.tx_power_w, 0, 1)[0])
        airtime = airtimes[client, 0]
        assert airtime.asked_ns == airtime.start_ns == pause
        assert airtime.end_ns == pause + drain_ns(bits, rate)
        assert airtime.after_span is None
        assert sum(airtime.energy_j.values()) == pytest.approx(
            0.1 * (airtime.end_ns - pause) / NS_PER_S, rel=1e-12
        )


def test_what_others_send_changes_nothing_under_orthogonal_access():
    alone, beside = built(2), built(2)
    for cell in (alone, beside):
        cell.air.grant(LINK, round_robin(2), 1)
    quiet = play(alone, [[(0, 10**6)], []])
    busy = play(beside, [[(0, 10**6)], [(0, 10**7), (0, 10**7)]])
    assert quiet[0, 0] == busy[0, 0]


def test_orthogonal_grants_are_recorded_once():
    cell = built(3)
    cell.air.grant(LINK, round_robin(3), 1)
    play(cell, [[(0, 1000)] * 3] * 3)
    assert sorted(cell.log.grants.subchannel) == list(range(NUM_SUBCHANNELS))
    assert set(cell.log.grants.time_ns) == {0}


def test_the_recorded_gain_is_the_one_the_cell_has_at_that_instant():
    cell = built(3, fading=RayleighBlock(coherence_time_s=0.001))
    cell.air.grant(LINK, whole_band(3), 1)
    play(cell, [[(10**6 * client, 10**6)] for client in range(3)])
    grants = cell.log.grants
    for row in range(len(grants)):
        gains = cell.cell.gain_at(LINK, grants.time_ns[row])
        client = int(grants.client[row].removeprefix("client-"))
        assert grants.gain[row] == gains[client, grants.subchannel[row]]


# In turn


def test_overlapping_grants_are_served_one_at_a_time_in_the_order_of_asking():
    cell = built(4)
    cell.air.grant(LINK, whole_band(4), 1)
    order = [2, 0, 3, 1]
    airtimes = play(cell, [[(order.index(client), 10**6)] for client in range(4)])
    served = sorted(range(4), key=lambda client: airtimes[client, 0].start_ns)
    assert served == order
    for number, (before, after) in enumerate(pairwise(served)):
        assert airtimes[after, 0].start_ns == airtimes[before, 0].end_ns
        assert airtimes[after, 0].after_span == number


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_who_asks_at_one_instant_is_served_in_the_order_of_clients(order):
    cell = built(3)
    cell.air.grant(LINK, whole_band(3), 1)

    def scheme():
        plan = [(0, 10_000), (5, 20_000)]
        yield cell.clock.all_of([cell.clock.process(sender(cell, one, plan), f"{one}") for one in order])

    cell.clock.run(cell.clock.process(scheme(), "the scheme"))
    served = sorted(cell.airtimes, key=lambda which: cell.airtimes[which].start_ns)
    assert served == [(client, number) for number in range(2) for client in range(3)]
    ends = [cell.airtimes[which].end_ns for which in served]
    assert [cell.airtimes[which].start_ns for which in served] == [0, *ends[:-1]]


def test_who_waits_is_not_overtaken_by_one_whose_subchannels_are_free():
    """Client 1 needs what client 0 holds; client 2 needs nothing of the two, and still waits its turn."""
    cell = built(3)
    band = np.arange(NUM_SUBCHANNELS)
    grants = {0: Grant.spread(band[:2], 0.1), 1: Grant.spread(band[1:3], 0.1), 2: Grant.spread(band[4:], 0.1)}
    cell.air.grant(LINK, grants, 1)
    airtimes = play(cell, [[(0, 10**6)], [(1, 10**6)], [(2, 10**6)]])
    assert airtimes[1, 0].start_ns == airtimes[2, 0].start_ns == airtimes[0, 0].end_ns


def test_two_transfers_of_one_client_follow_each_other():
    cell = built(1)
    cell.air.grant(LINK, whole_band(1), 1)

    def scheme():
        both = [cell.clock.process(sender(cell, 0, [(0, 10**6)]), f"{n}") for n in range(2)]
        yield cell.clock.all_of(both)

    cell.clock.run(cell.clock.process(scheme(), "the scheme"))
    assert cell.num_spans == 2
    assert cell.airtimes[0, 0].start_ns == cell.airtimes[0, 0].end_ns // 2


# Reassign


def test_subchannels_of_who_is_silent_speed_up_who_sends():
    alone, shared = built(2, Orthogonal()), built(2, Reassign())
    for cell in (alone, shared):
        cell.air.grant(LINK, round_robin(2), 1)
    transfers = [[(0, 10**7)], []]
    assert play(shared, transfers)[0, 0].end_ns < play(alone, transfers)[0, 0].end_ns


def test_a_sender_that_ends_gives_its_subchannels_to_those_still_sending():
    cell = built(2, Reassign())
    grants = round_robin(2)
    cell.air.grant(LINK, grants, 1)
    airtimes = play(cell, [[(0, 10**6)], [(0, 10**7)]])
    first, second = airtimes[0, 0], airtimes[1, 0]
    own = float(cell.cell.rates(LINK, 1, grants[1].subchannels, grants[1].tx_power_w, 0, 1)[0])
    band = np.arange(NUM_SUBCHANNELS)
    all_of_it = float(cell.cell.rates(LINK, 1, band, np.full(len(band), 0.1 / len(band)), 0, 1)[0])
    left = 10**7 - Fraction(own) * first.end_ns / NS_PER_S
    assert second.end_ns == first.end_ns + drain_ns(left, all_of_it)


def test_everybody_sending_at_once_has_what_was_granted():
    orthogonal, shared = built(3, Orthogonal()), built(3, Reassign())
    for cell in (orthogonal, shared):
        cell.air.grant(LINK, round_robin(3), 1)
    transfers = [[(0, 10**6)], [(0, 10**7)], [(0, 10**7)]]
    quickest = min(play(orthogonal, transfers).values(), key=lambda airtime: airtime.end_ns)
    assert min(airtime.end_ns for airtime in play(shared, transfers).values()) == quickest.end_ns


def test_transfers_that_end_in_the_same_nanosecond_all_end():
    """Equal clients: whoever is told first frees subchannels for one that has just ended too."""
    cell = built(3, Reassign())
    radio = cell.cell.radio.model_copy(
        update={"placement": type(cell.cell.radio.placement)(inner_m=100.0, outer_m=100.0)}
    )
    cell.cell = Channel.build(radio, 3, 1)
    cell.air = Draining(
        cell.clock, cell.cell, Reassign(), cell.log.grants, [Link(LINK, "up", "server")], Fluid()
    )
    cell.air.grant(LINK, round_robin(3), 1)
    airtimes = play(cell, [[(0, 10**6), (0, 10**6)]] * 3)
    assert len({airtime.end_ns for airtime in airtimes.values()}) == 2
    assert len(airtimes) == 6


@settings(deadline=None, max_examples=60)
@given(transfers=TRANSFERS, fading=FADINGS, access=st.sampled_from([Orthogonal(), Reassign()]))
def test_the_bits_of_a_transfer_are_its_recorded_grants_times_their_rates(transfers, fading, access):
    cell = built(len(transfers), access, fading)
    cell.air.grant(LINK, round_robin(len(transfers)), 1)
    for (client, number), airtime in play(cell, transfers).items():
        bits = transfers[client][number][1]
        # the last nanosecond may carry more than was left
        spare = 1e9 / NS_PER_S + 1e-9 * bits
        assert bits - 1e-9 * bits <= bits_of_grants(cell, client, airtime) <= bits + spare


@settings(deadline=None, max_examples=60)
@given(transfers=TRANSFERS, fading=FADINGS, access=st.sampled_from([Orthogonal(), Reassign()]))
def test_a_client_never_sends_with_more_than_its_power(transfers, fading, access):
    cell = built(len(transfers), access, fading)
    cell.air.grant(LINK, round_robin(len(transfers)), 1)
    play(cell, transfers)
    held = owners_over_time(cell.log)
    instants = {at for at in cell.log.grants.time_ns}
    for instant in instants:
        powers = defaultdict(float)
        for periods in held.values():
            for begin, end, client, power in periods:
                if begin <= instant and (end is None or instant < end):
                    powers[client] += power
        for power in powers.values():
            assert power <= 0.1 * (1 + 1e-12)


@settings(deadline=None, max_examples=60)
@given(transfers=TRANSFERS, fading=FADINGS)
def test_energy_is_power_times_time_on_air(transfers, fading):
    cell = built(len(transfers), Reassign(), fading)
    cell.air.grant(LINK, round_robin(len(transfers)), 1)
    for airtime in play(cell, transfers).values():
        assert sum(airtime.energy_j.values()) == pytest.approx(
            0.1 * (airtime.end_ns - airtime.start_ns) / NS_PER_S
        )


# A new decision under way


@pytest.mark.parametrize("fading", [NoFading(), RayleighBlock(coherence_time_s=0.002)])
def test_a_new_grant_takes_over_in_flight_and_loses_no_bit(fading):
    cell = built(2, fading=fading)
    before, after = round_robin(2), {0: round_robin(2)[1], 1: round_robin(2)[0]}
    cell.air.grant(LINK, before, 1)
    cell.clock.after(20_000_000, lambda: cell.air.grant(LINK, after, 2))
    airtimes = play(cell, [[(0, 10**6)], [(0, 10**6)]])
    assert set(cell.log.grants.round) == {1, 2}
    for (client, _), airtime in airtimes.items():
        assert airtime.end_ns > 20_000_000
        assert bits_of_grants(cell, client, airtime) == pytest.approx(10**6, rel=1e-5)


def test_a_new_grant_at_twice_the_width_ends_at_the_closed_form():
    cell = built(1)
    narrow, wide = Grant.spread(np.arange(3), 0.05), Grant.spread(np.arange(6), 0.1)
    cell.air.grant(LINK, {0: narrow}, 1)
    cell.clock.after(10_000_000, lambda: cell.air.grant(LINK, {0: wide}, 1))
    rate = float(cell.cell.rates(LINK, 0, narrow.subchannels, narrow.tx_power_w, 0, 1)[0])
    fast = float(cell.cell.rates(LINK, 0, wide.subchannels, wide.tx_power_w, 0, 1)[0])
    left = 10**6 - Fraction(rate) / 100
    assert left > 0
    airtime = play(cell, [[(0, 10**6)]])[0, 0]
    assert airtime.end_ns == 10_000_000 + drain_ns(left, fast)
    powers = (0.05 * 10_000_000 + 0.1 * (airtime.end_ns - 10_000_000)) / NS_PER_S
    assert sum(airtime.energy_j.values()) == pytest.approx(powers, rel=1e-12)


def test_who_waits_begins_at_once_when_a_new_grant_frees_its_subchannels():
    cell = built(2)
    cell.air.grant(LINK, whole_band(2), 1)
    cell.clock.after(1_000_000, lambda: cell.air.grant(LINK, round_robin(2), 1))
    airtimes = play(cell, [[(0, 10**6)], [(0, 10**6)]])
    assert airtimes[1, 0].start_ns == 1_000_000
    assert airtimes[1, 0].after_span is None


def test_who_began_later_pauses_when_new_grants_overlap():
    cell = built(2)
    grants, band = round_robin(2), whole_band(2)
    cell.air.grant(LINK, grants, 1)
    cell.clock.after(1_000_000, lambda: cell.air.grant(LINK, band, 1))
    airtimes = play(cell, [[(0, 10**6)], [(0, 10**6)]])

    def rate(client, grant):
        return float(cell.cell.rates(LINK, client, grant.subchannels, grant.tx_power_w, 0, 1)[0])

    for client in range(2):
        left = 10**6 - Fraction(rate(client, grants[client])) / 1000
        resumed = 1_000_000 if client == 0 else airtimes[0, 0].end_ns
        assert airtimes[client, 0].start_ns == 0
        assert airtimes[client, 0].end_ns == resumed + drain_ns(left, rate(client, band[client]))
        sending_ns = 1_000_000 + airtimes[client, 0].end_ns - resumed
        assert sum(airtimes[client, 0].energy_j.values()) == pytest.approx(
            0.1 * sending_ns / NS_PER_S, rel=1e-12
        )
        assert bits_of_grants(cell, client, airtimes[client, 0]) == pytest.approx(10**6, rel=1e-5)


def test_subchannels_nobody_has_any_more_are_recorded_as_released():
    cell = built(1)
    cell.air.grant(LINK, whole_band(1), 1)
    cell.clock.after(1_000_000, lambda: cell.air.grant(LINK, {0: Grant.spread(np.arange(2), 0.1)}, 1))
    play(cell, [[(0, 10**6)]])
    grants = cell.log.grants
    released = [n for n, client in zip(grants.subchannel, grants.client, strict=True) if client == ""]
    assert released == [2, 3, 4, 5]


DECISIONS = st.lists(
    st.tuples(st.integers(0, 3 * 10**7), st.sampled_from(["own", "band", "half"])), max_size=4
)


@settings(deadline=None, max_examples=80)
@given(
    transfers=TRANSFERS, fading=FADINGS, access=st.sampled_from([Orthogonal(), Reassign()]), later=DECISIONS
)
def test_no_bit_is_lost_whatever_is_decided_under_way(transfers, fading, access, later):
    num_clients = len(transfers)
    cell = built(num_clients, access, fading)
    half = {
        client: Grant.spread(np.arange(client % 3, client % 3 + 3), 0.05) for client in range(num_clients)
    }
    decisions = {"own": round_robin(num_clients), "band": whole_band(num_clients), "half": half}
    cell.air.grant(LINK, decisions["own"], 1)
    for at, which in later:
        cell.clock.after(at, lambda which=which: cell.air.grant(LINK, decisions[which], 1))
    airtimes = play(cell, transfers)
    assert len(airtimes) == sum(map(len, transfers))
    for (client, number), airtime in airtimes.items():
        bits = transfers[client][number][1]
        # each pause and each new rate begins on a whole nanosecond: exact; only the last one is rounded up
        assert bits * (1 - 1e-9) <= bits_of_grants(cell, client, airtime) <= bits * (1 + 1e-9) + 1.0


def test_a_grant_without_power_never_gets_its_bits_through_and_says_whose():
    cell = built(1)
    cell.air.grant(LINK, whole_band(1, power_w=0.0), 1)
    with pytest.raises(StalledError, match="client-0 waits for 77 bits of client-0 on main_uplink"):
        play(cell, [[(0, 77)]])
