"""Interference of the scenario's own clients, against a timeline worked out by hand from starts and ends."""

from itertools import pairwise
from math import log2

import numpy as np
import pytest

from cosim.errors import ScenarioError
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S, dbm_to_w

PLACES_M = [[30.0, 10.0], [-60.0, 40.0], [370.0, -20.0]]
CELLS = {
    "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1},
    "radio.base_stations": {
        "kind": "given",
        "site_positions_m": [[0.0, 0.0], [400.0, 0.0]],
        "num_sectors": 1,
        "antenna": "isotropic",
    },
    "radio.placement": {"kind": "given", "positions_m": PLACES_M},
    "radio.shadowing.kind": "none",
    "radio.fading.kind": "none",
    "radio.federated_uplink": {"num_subchannels": 6, "bandwidth_hz": 1.2e6, "max_total_tx_power_dbm": None},
    "radio.federated_downlink": {
        "modelled": True,
        "num_subchannels": 6,
        "bandwidth_hz": 1.2e6,
        "tx_power_dbm": 30.0,
    },
    "radio.interference": {"kind": "own_traffic"},
    "allocator.kind": "equal",
}


def transfers(world, name):
    log = world.log.spans
    log.settle()
    return {
        int((log.actor[row] if name == "adapter_upload" else log.peer[row]).rpartition("-")[2]): (
            log.start_ns[row],
            log.end_ns[row],
            log.bits[row],
            log.energy_j[row],
            log.asked_ns[row],
        )
        for row in range(len(log))
        if log.name[row] == name
    }


def by_hand(channel, starts_ns, bits, used, *, is_uplink):
    """Return when each transfer ends, s: all of them step by step from one start or end to the next.

    ``used`` gives each client's subchannels and the power on each, W.
    """
    scale = channel.large_scale_at(0)
    gains, cells, width_hz = scale.station_gains[0], scale.serving[0], 0.2e6
    now = min(starts_ns.values()) / NS_PER_S
    left, ends = dict.fromkeys(starts_ns, float(bits)), {}
    while left:
        active = [one for one in left if starts_ns[one] / NS_PER_S <= now + 1e-15]
        rates = {}
        for one in active:
            rates[one] = 0.0
            for number in used[one][0]:
                noise = channel.noise_psd_w_per_hz
                for other in active:
                    if cells[other] != cells[one] and number in used[other][0]:
                        gain = gains[other, cells[one]] if is_uplink else gains[one, cells[other]]
                        noise += used[other][1] / width_hz * gain
                snr = used[one][1] / width_hz * gains[one, cells[one]] / noise
                rates[one] += width_hz * log2(1.0 + snr)
        begins = [
            at / NS_PER_S for one, at in starts_ns.items() if one in left and at / NS_PER_S > now + 1e-15
        ]
        following = min([*begins, *(now + left[one] / rates[one] for one in active)])
        for one in active:
            left[one] -= rates[one] * (following - now)
            if left[one] < 1e-6:
                ends[one] = following
                del left[one]
        now = following
    return ends


@pytest.mark.parametrize("name", ["adapter_upload", "adapter_download"])
@pytest.mark.parametrize("reuse", ["every_cell", "as_granted"])
def test_transfers_are_rated_by_who_sends_in_other_cells_at_every_instant(reuse, name, tiny_scenario, play):
    scenario = tiny_scenario({**CELLS, "radio.interference.reuse": reuse})
    channel = prepare(scenario).channel
    assert channel.large_scale_at(0).serving[0].tolist() == [0, 0, 1]
    is_uplink = name == "adapter_upload"
    powers_w = np.full(3, dbm_to_w(23.0) if is_uplink else dbm_to_w(30.0) / 3)
    owned = [[0, 3], [1, 4], [2, 5]]
    if reuse == "every_cell":  # what the other cell was granted, one by one
        owned = [[0, 3, 2], [1, 4, 5], [2, 5, 0, 1, 3, 4]]
    used = {one: (numbers, powers_w[one] / len(numbers)) for one, numbers in enumerate(owned)}
    found = transfers(play(scenario), name)
    ((bits,),) = ({one[2] for one in found.values()},)
    ends = by_hand(channel, {one: row[0] for one, row in found.items()}, bits, used, is_uplink=is_uplink)
    for one, (start_ns, end_ns, _, energy_j, _) in found.items():
        assert end_ns / NS_PER_S == pytest.approx(ends[one], abs=4e-9)
        if is_uplink:
            assert energy_j == pytest.approx(powers_w[one] * (end_ns - start_ns) / NS_PER_S)


def test_cells_that_share_in_time_send_side_by_side_and_one_cell_in_turn(tiny_scenario, play):
    slow = {**CELLS, "allocator.kind": "time_shared", "clients.clock_hz": 1e9}
    found = transfers(play(tiny_scenario(slow)), "adapter_upload")
    first, second = sorted((found[0], found[1]))
    assert second[0] >= first[1]
    assert found[2][0] == found[2][4] == first[0]  # the other cell waits for nobody
    alone = {**slow, "radio.interference.kind": "none"}
    in_turn = sorted(transfers(play(tiny_scenario(alone)), "adapter_upload").values())
    assert all(after[0] >= before[1] for before, after in pairwise(in_turn))


def test_with_one_base_station_nobody_is_heard(tiny_scenario, play):
    one_cell = {**CELLS, "radio.base_stations": {"kind": "single"}}
    other, same = (
        transfers(play(tiny_scenario({**one_cell, "radio.interference.kind": kind})), "adapter_upload")
        for kind in ("none", "own_traffic")
    )
    assert other == same


def test_each_subchannel_of_each_cell_has_one_owner_on_record(tiny_scenario, play):
    world = play(tiny_scenario({**CELLS, "radio.interference.kind": "own_traffic"}))
    held, log = {}, world.log.grants
    for link, number, client in zip(log.link, log.subchannel, log.client, strict=True):
        held.setdefault((link, number), set()).add(client)
    assert {number for link, number in held if link == "federated_uplink"} == set(range(12))
    assert held["federated_uplink", 6] == {"client-2"}  # the first of the second cell


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radio.access.kind": "reassign"}, "take the access 'orthogonal'"),
        ({"radio.medium": {"kind": "over_the_air"}}, "adds what clients of all cells send"),
        ({"scheme.downlink": "multicast"}, "set downlink = 'unicast'"),
        ({"radio.mobility": {"kind": "constant_velocity", "speed_m_per_s": 1.0}}, "a client that moves"),
    ],
)
def test_where_cells_cannot_reuse_the_band_it_is_refused(changes, message, tiny_scenario):
    with pytest.raises(ScenarioError, match=message):
        prepare(tiny_scenario({**CELLS, **changes}))
