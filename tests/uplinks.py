"""Random uplinks and curves for the tests and the bench of TSFA's second stage."""

import numpy as np

from cosim.control.solvers.sparsity.curves import Exponential, Stepped
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats
from tests.slsqp import SmoothRound, SteppedRound


def random_uplink(seed: int, num_clients: int = 6, *, overhead_bits: float = 144.0) -> Uplink:
    """Return a macro cell with Rayleigh fading, 5 MHz wide, and adapters of 3 Mbit."""
    rng = np.random.default_rng(seed)
    loss_db = 128.1 + 37.6 * np.log10(rng.uniform(0.05, 0.3, num_clients))
    gains = 10.0 ** (-loss_db / 10.0) * rng.exponential(size=num_clients)
    return Uplink(
        snr_hz=0.2 * gains / 10.0 ** ((-174.0 + 9.0 - 30.0) / 10.0),
        bandwidth_hz=5e6,
        start_s=rng.uniform(0.1, 0.6, num_clients),
        overhead_bits=np.full(num_clients, overhead_bits),
        dense_bits=np.full(num_clients, 8 * 8 * 768 * 2 * 32.0),
    )


def random_exponential(seed: int, uplink: Uplink) -> tuple[Exponential, SmoothRound]:
    """Return exponential curves, and the same for the general solver."""
    rng = np.random.default_rng([seed, 1])
    number = uplink.num_clients
    energies = rng.uniform(0.5, 2.0, number) * rng.dirichlet(np.full(number, 5.0))
    decays = rng.uniform(1.0, 6.0, number)
    ours = Exponential(uplink.dense_bits, energies, decays, np.ones(number))
    return ours, SmoothRound(uplink, energies, decays)


def random_pairs(seed: int, uplink: Uplink, num_pairs: int) -> tuple[Floats, Floats, Floats]:
    """Return bits and energies of pairs, shape (num_clients, num_pairs), and weights of the clients."""
    rng = np.random.default_rng([seed, 2])
    shape = (uplink.num_clients, num_pairs)
    sizes = rng.choice([1.0, 2.0], size=num_pairs)
    bits = np.broadcast_to(sizes / sizes.sum(), shape) * uplink.dense_bits[:, None]
    return bits, rng.exponential(size=shape) ** 2 / num_pairs, rng.dirichlet(np.full(shape[0], 5.0))


def random_stepped(seed: int, uplink: Uplink, num_pairs: int = 16) -> tuple[Stepped, SteppedRound]:
    """Return exact curves of random pairs, and the same for the general solver."""
    bits, energies, weights = random_pairs(seed, uplink, num_pairs)
    ours = Stepped(list(bits), list(energies), weights)
    return ours, SteppedRound.of(uplink, bits, energies, weights)


def middle_s(uplink: Uplink, share: float = 0.4) -> float:
    """Return a deadline between an empty and a dense upload."""
    payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + uplink.dense_bits])
    empty, dense = uplink.earliest_s(payloads).tolist()
    return float((1.0 - share) * empty + share * dense)
