"""Who owns each subchannel, as one array, and what is made of it."""

import numpy as np

from cosim.control.state import LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.units import Floats, Ints


def check_enough(link: str, num_clients: int, num_subchannels: int) -> None:
    """Raise an AllocationError if there are fewer subchannels than clients."""
    if num_subchannels < num_clients:
        raise AllocationError(
            f"{link}: {num_clients} clients cannot each have one of {num_subchannels} subchannels; "
            "use 'time_shared', or give the link more subchannels."
        )


def grants_of(assignment: Ints, tx_power_w: Floats, num_clients: int) -> tuple[Grant, ...]:
    """Return the grants of every client from owner and power, W, of each subchannel."""
    return tuple(
        Grant(owned, tx_power_w[owned])
        for owned in (np.flatnonzero(assignment == client) for client in range(num_clients))
    )


def spread_powers(assignment: Ints, powers_w: Floats) -> Floats:
    """Return the power of each subchannel, W, with each client's spread evenly over its own.

    Parameters
    ----------
    assignment
        The client that owns each subchannel, shape (num_subchannels,).
    powers_w
        Each client's power, W, shape (num_clients,).
    """
    counts = np.bincount(assignment, minlength=len(powers_w))
    return np.asarray((powers_w / np.maximum(counts, 1))[assignment])


def random_assignment(link: LinkState, rng: np.random.Generator) -> Ints:
    """Return a random owner for each subchannel, every client owning at least one.

    Raises
    ------
    AllocationError
        If there are fewer subchannels than clients.
    """
    check_enough(link.name, link.num_clients, link.num_subchannels)
    spare = link.num_subchannels - link.num_clients
    assignment = np.concatenate([np.arange(link.num_clients), rng.integers(link.num_clients, size=spare)])
    rng.shuffle(assignment)
    return assignment


def random_powers(link: LinkState, rng: np.random.Generator) -> Floats:
    """Return a random power for each client, W: 5 to 100 % of its limit, then scaled to the sum's."""
    return scaled(link.max_tx_power_w * rng.uniform(0.05, 1.0, size=link.num_clients), link)


def scaled(powers_w: Floats, link: LinkState) -> Floats:
    """Return powers, W, scaled down together until they keep the link's limit on their sum."""
    total = float(powers_w.sum())
    return powers_w * min(1.0, link.max_total_tx_power_w / total) if total > 0.0 else powers_w
