"""The best assignment of a barrier whose subchannels are all alike: only how many a client owns matters."""

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.proving.proof import Proof
from cosim.control.solvers.power_control import control_power
from cosim.control.solvers.water_filling import min_power
from cosim.units import Ints

_ROUNDING = 1.0 - 1e-11


def are_equal(phase: Phase) -> bool:
    """Return whether no client can tell one subchannel from another."""
    is_flat = bool((phase.gains == phase.gains[:, :1]).all())
    return is_flat and bool((phase.bandwidths_hz == phase.bandwidths_hz[0]).all())


def prove_by_counting(phase: Phase, assignment: Ints) -> Proof:
    """Return the best assignment, by bisection on the deadline.

    At a given deadline a client's least power falls with each further subchannel
    by less than with the one before. So assigning first the fewest that keep each
    client's limit, then one by one to the client that saves most, leaves the least power
    in all, and tells whether the deadline can be met.

    Source
    ------
    O. Gross, "A class of discrete-type minimization problems", RAND, 1956, for the
    greedy assigning; the convexity is that of the perspective of ``2 ** rate - 1``.
    """
    most = phase.num_subchannels - phase.num_clients + 1
    numbers = np.arange(1, most + 1)
    gains = phase.gains[:, :1, None]
    width = float(phase.bandwidths_hz[0])

    def shares(deadline_s: float) -> Ints | None:
        """Return how many subchannels each client gets if all can be done by then."""
        left = deadline_s - phase.compute_s
        if (left <= 0.0).any():
            return None
        rates = np.broadcast_to((phase.bits / left)[:, None], (phase.num_clients, most))
        needed = min_power(
            rates,
            np.broadcast_to(gains, (*rates.shape, 1)),
            (width * numbers)[:, None].astype(np.float64),
            phase.cap_bit_per_s_per_hz,
        )
        fits = needed <= phase.max_tx_power_w[:, None]
        if not fits.any(axis=1).all():
            return None
        least = fits.argmax(axis=1)  # index of the fewest that keep the client's own limit
        spare = phase.num_subchannels - int((least + 1).sum())
        if spare < 0:
            return None
        power = np.where(fits, needed, 0.0)
        saved = power[:, :-1] - power[:, 1:]
        beyond = np.arange(most - 1) >= least[:, None]
        saved = np.where(beyond, saved, -np.inf).ravel()
        given = np.argsort(-saved, kind="stable")[:spare]
        extra = np.bincount(given // max(most - 1, 1), minlength=phase.num_clients)
        counts = least + 1 + extra
        total = float(power[np.arange(phase.num_clients), counts - 1].sum())
        return counts if total <= phase.max_total_tx_power_w else None

    powers = control_power(phase, assignment)
    early, late = float(phase.compute_s.max()), powers.deadline_s
    for _ in range(200):
        middle = 0.5 * (early + late)
        if late - early <= 1e-13 * late:
            break
        counts = shares(middle)
        if counts is None:
            early = middle
            continue
        proposed = np.repeat(np.arange(phase.num_clients), counts)
        better = control_power(phase, proposed)
        if better.deadline_s < powers.deadline_s:
            assignment, powers = proposed, better
        late = min(middle, better.deadline_s)
    return Proof(assignment, powers, early * _ROUNDING, 0)
