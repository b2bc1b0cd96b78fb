"""Deadline and bandwidths by turns, as a paper would have it: it stalls, and is here to be compared with.

With the sparsification ratios held the bandwidths are shared so that the last client is done
as early as possible; with the bandwidths held the deadline is searched, and every
client fills the time it has. After that all who send less than everything end
together, so the next sharing changes nothing: bandwidths hardly leave their first values.

Source
------
Method card 2 (soft_tsfa), section 8.4, alternating version.
"""

import numpy as np

from cosim.control.solvers.sparsity.curves import Curves
from cosim.control.solvers.sparsity.deadline import Round
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats

_NUM_POINTS = 24
_REFINEMENTS = 5


def alternate(
    uplink: Uplink,
    curves: Curves,
    *,
    weight: float,
    queue_s: float,
    max_s: float = np.inf,
    tolerance: float = 1e-9,
    max_sweeps: int = 50,
) -> tuple[Round, int]:
    """Return the round the turns end at, and the number of sweeps; begins at equal bandwidths.

    Parameters are those of :func:`~cosim.control.solvers.sparsity.deadline.best_round`; a
    sweep that wins less than the share ``tolerance`` is the last.
    """
    best = _fill(uplink, curves, _equal(uplink), weight, queue_s, max_s)
    value = weight * best.unsent + queue_s * best.deadline_s
    for sweep in range(1, max_sweeps + 1):
        widths = uplink.fair_widths_hz(uplink.overhead_bits + best.bits)
        tried = _fill(uplink, curves, widths, weight, queue_s, max_s)
        reached = weight * tried.unsent + queue_s * tried.deadline_s
        if reached < value:
            best, gain, value = tried, value - reached, reached
        else:
            gain = 0.0
        if gain <= tolerance * abs(value):
            return best, sweep
    return best, max_sweeps


def filled(uplink: Uplink, curves: Curves, bandwidth_hz: Floats, deadline_s: float) -> Round:
    """Return the round in which each client sends what gets through its bandwidth by a deadline.

    A client whose overhead does not get through sends it alone, late.
    """
    carried = uplink.carried_bits(bandwidth_hz, np.asarray(deadline_s))
    bits = np.clip(carried - uplink.overhead_bits, 0.0, curves.useful_bits)
    unsent = float(curves.remaining(bits).sum())
    return Round(deadline_s, bandwidth_hz, bits, unsent, 0.0)


def _equal(uplink: Uplink) -> Floats:
    return np.full(uplink.num_clients, uplink.bandwidth_hz / uplink.num_clients)


def _fill(
    uplink: Uplink, curves: Curves, bandwidth_hz: Floats, weight: float, queue_s: float, max_s: float
) -> Round:
    """Return the best deadline with the bandwidths held."""
    given = bandwidth_hz[None]
    earliest = float(uplink.finish_s(uplink.overhead_bits, bandwidth_hz).max())
    dense = float(uplink.finish_s(uplink.overhead_bits + curves.useful_bits, bandwidth_hz).max())
    low, high = earliest, max(min(dense, max_s), earliest)
    for _ in range(1 + _REFINEMENTS):
        points = np.linspace(low, high, _NUM_POINTS)
        carried = uplink.carried_bits(given, points[:, None])
        bits = np.clip(carried - uplink.overhead_bits, 0.0, curves.useful_bits)
        totals = weight * curves.remaining(bits).sum(axis=1) + queue_s * points
        at = int(totals.argmin())
        low, high = points[max(at - 1, 0)], points[min(at + 1, _NUM_POINTS - 1)]
    return filled(uplink, curves, bandwidth_hz, float(points[at]))
