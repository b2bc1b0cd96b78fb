"""Open-loop power control of the clients: what they send, whatever was granted."""

import numpy as np
import pytest

from cosim.units import dbm_to_w

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1}}
CONTROL = {"radio.uplink_p0_dbm": -95.0, "radio.uplink_alpha": 0.8}


@pytest.mark.parametrize("allocator", ["equal", "random", "time_shared"])
def test_clients_send_what_power_control_leaves_of_their_grants(allocator, tiny_scenario, play):
    chosen = {**FEDERATED, "allocator.kind": allocator, "clients.count": 3}
    free, controlled = (play(tiny_scenario({**chosen, **more})) for more in ({}, CONTROL))
    gains_db = 10.0 * np.log10(free.channel.mean_gains)
    most = dbm_to_w(1.0) * 10.0 ** ((-95.0 - 0.8 * gains_db - 1.0) / 10.0) / 180e3  # W/Hz
    width_hz = free.channel.bandwidths_hz("federated_uplink")[0]
    sent = [
        [(log.client[row], log.subchannel[row], log.tx_power_w[row]) for row in range(len(log))]
        for log in (free.log.grants, controlled.log.grants)
    ]
    limited = 0
    granted = {(client, number): power for client, number, power in sent[0]}
    for client, number, power in sent[1]:
        if not client:
            continue
        expected = min(granted[client, number], most[int(client[7:])] * width_hz)
        limited += expected < granted[client, number]
        assert power == pytest.approx(expected, rel=1e-12)
    assert limited
    assert controlled.clock.now > free.clock.now


def test_downlinks_are_not_controlled(tiny_scenario, play):
    counted = {**FEDERATED, "radio.federated_downlink.counted": True}
    free, controlled = (play(tiny_scenario({**counted, **more})) for more in ({}, CONTROL))
    powers = [
        [p for link, p in zip(log.link, log.tx_power_w, strict=True) if link == "federated_downlink"]
        for log in (free.log.grants, controlled.log.grants)
    ]
    assert powers[0]
    assert powers[0] == powers[1]
