"""Transfers in slots against the same transfers that drain, without anything else."""

from collections.abc import Iterator
from time import process_time
from typing import Any

import numpy as np

from bench.ratio import Ratio
from cosim.kernel.clock import Clock, Steps
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Delivery, Payload
from cosim.radio.settings import Radio
from cosim.record.log import Log
from cosim.units import NS_PER_S

LINK = Link("main_uplink", "up", "main-server")
NUM_SUBCHANNELS, SLOT_S, REPEATS = 20, 1e-3, 3
SCHEDULERS = (
    "granted",
    "round_robin",
    "max_rate",
    "proportional_fair",
    "earliest_deadline",
    "remaining_bits",
)
LIMIT_US = 10.0


def measure() -> list[Ratio]:
    """Return CPU time of a slot of one active client over its limit, and of transfers over fluid ones."""
    found = []
    for num_clients in (1, 10):
        _, fluid_s = _played({"kind": "fluid"}, num_clients)
        for kind in SCHEDULERS if num_clients > 1 else SCHEDULERS[:1]:
            active_s, spent_s = _played({"kind": "slotted", "scheduler": {"kind": kind}}, num_clients)
            each_us = spent_s / (active_s / SLOT_S) * 1e6
            note = f"{each_us:.1f} us; {spent_s / fluid_s:.0f} times the same bits over a fluid medium"
            name = f"active client and slot / {LIMIT_US:g} us, {kind}, {num_clients} client(s)"
            found.append(Ratio(name, each_us / LIMIT_US, 1.0, note=note))
    return found


def _played(medium: dict[str, Any], num_clients: int) -> tuple[float, float]:
    """Return for how long clients were active, summed, and the least CPU time it took, s."""
    spent_s = []
    for _ in range(REPEATS):
        began_s = process_time()
        deliveries = list(_deliveries(medium, num_clients))
        spent_s.append(process_time() - began_s)
    return sum((one.end_ns - one.asked_ns) / NS_PER_S for one in deliveries), min(spent_s)


def _deliveries(medium: dict[str, Any], num_clients: int) -> Iterator[Delivery]:
    """Let all clients send a lot at once over an uplink with fading."""
    radio = Radio.model_validate(
        {
            "medium": medium,
            "fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
            "main_uplink": {"num_subchannels": NUM_SUBCHANNELS, "bandwidth_hz": 20e6},
        }
    )
    clock = Clock()
    channel = Channel.build(radio, num_clients, 1)
    network = radio.medium.open(clock, channel, Orthogonal(), Log().grants, [LINK])
    every = {
        client: Grant.spread(np.arange(client, NUM_SUBCHANNELS, num_clients), 0.1)
        for client in range(num_clients)
    }
    network.grant(LINK.name, every, 1)

    def send(client: int) -> Steps:
        delivery: Delivery = yield from network.send(LINK.name, {client: Payload(100_000_000 // num_clients)})
        network.leave(LINK.name, [client], client)
        return delivery

    started = [clock.process(send(client), f"client-{client}") for client in range(num_clients)]

    def all_of_them() -> Steps:
        yield clock.all_of(started)

    clock.run(clock.process(all_of_them(), "all"))
    return (one.value for one in started)
