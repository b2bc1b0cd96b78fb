"""A path from a client to a server with other users beside it, for what acts on paths."""

from typing import Any

import numpy as np

from cosim.radio.path import Network, Path, Users
from cosim.rng import stream

NUM_SUBCHANNELS, NUM_BLOCKS = 4, 6


def path(part: Any, first: int = 0, count: int = NUM_BLOCKS, is_uplink: bool = True) -> Path:
    """Return the path over some blocks of a part, of a client that stays where it is."""
    time_ns = (first + np.arange(count)) * (part.block_ns or 1_000_000)
    place_m = np.broadcast_to(np.array([100.0, 0.0]), (count, 2))
    chance = stream(3, "path")
    gains = np.tile(chance.child("gains").uniforms(0, 1, 3), (count, 1))
    network = Network(np.full(count, 1), gains, other_users, chance.child("network"))
    return Path("main_uplink", 0, is_uplink, time_ns, place_m, np.zeros((count, 2)), chance, network)


def other_users(count: int) -> Users:
    """Return some users, each served by the station that it hears best."""
    gains = stream(4, "users").uniforms(0, count, 3)
    return Users(gains.argmax(axis=1), gains)
