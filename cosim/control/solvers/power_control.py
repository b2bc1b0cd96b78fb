"""Power control: the earliest common deadline of a barrier when the subchannels are already assigned.

With the assignment fixed the problem is convex. For a deadline every client needs
a rate, hence by water-filling a least power; what all clients need together
falls as the deadline grows. So the best deadline is the one at which either a
client's limit or the limit on the sum is just met, and it is found on a line.

Source
------
FedsLLM, arXiv 2504.14667, power control; solved as in method card 1, section
7.2, with Newton steps kept inside a bracket in the place of bisection.
"""

from dataclasses import dataclass

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.solvers.water_filling import WaterFilling
from cosim.errors import AllocationError
from cosim.units import NS_PER_S, Floats, Ints

_LATEST_S = (2**63 - 1) / NS_PER_S  # the clock counts nanoseconds in 64 bits: later than this is never
_TOLERANCE = 1e-13
_MAX_STEPS = 200


@dataclass(frozen=True, eq=False)
class Powers:
    """The outcome for one barrier.

    Attributes
    ----------
    deadline_s
        When the last client is done, s.
    tx_power_w
        Power of each subchannel, W, shape (num_subchannels,).
    rates_bit_per_s
        Rate of each client, bit/s, shape (num_clients,).
    """

    deadline_s: float
    tx_power_w: Floats
    rates_bit_per_s: Floats


def control_power(phase: Phase, assignment: Ints) -> Powers:
    """Return the powers with which the last client is done as early as possible, and no watt more.

    The solution of least power: unless a client has nothing to send, all are
    done at the same time.

    Parameters
    ----------
    phase
        The barrier.
    assignment
        The client that owns each subchannel, shape (num_subchannels,).

    Raises
    ------
    AllocationError
        If a client cannot finish, because it owns nothing, hears nothing or may
        not send; names the client and the watts it lacks.
    """
    index, owned = _owned(assignment, phase.num_clients)
    clients = np.arange(phase.num_clients)[:, None]
    widths = np.where(owned, phase.bandwidths_hz[index], 0.0)
    filling = WaterFilling(
        np.where(owned, phase.gains[clients, index], 0.0), widths, phase.cap_bit_per_s_per_hz
    )
    limits, total = phase.max_tx_power_w, phase.max_total_tx_power_w
    finish = phase.finish_s(filling.max_rate(limits))
    earliest = float(finish.max())
    if not earliest < _LATEST_S:
        _refuse(phase, int(finish.argmax()), filling, _LATEST_S)
    deadline = earliest
    rates = _needed_rates(phase, deadline)
    if np.minimum(filling.min_power(rates), limits).sum() > total:
        if not total > 0.0:
            raise AllocationError(
                f"{phase.link}: the limit on the sum of all powers is {total:g} W; it must be positive."
            )
        shares = filling.max_rate(limits * min(1.0, total / float(limits.sum())))
        latest = float(phase.finish_s(shares).max())
        if not latest < _LATEST_S:
            _refuse_sum(phase, filling, _LATEST_S)
        deadline = _meet_sum(phase, filling, earliest, latest)
        rates = _needed_rates(phase, deadline)
    needed = np.where(owned, filling.psd_for_rate(rates) * widths, 0.0)
    tx_power_w = np.zeros(phase.num_subchannels)
    tx_power_w[index[owned]] = needed[owned]
    tx_power_w = _within_limits(phase, assignment, tx_power_w)
    rates = phase.rates(assignment, tx_power_w)
    return Powers(float(phase.finish_s(rates).max()), tx_power_w, rates)


def _owned(assignment: Ints, num_clients: int) -> tuple[Ints, np.ndarray]:
    """Return the subchannels of each client, padded, and where the padding is not."""
    counts = np.bincount(assignment, minlength=num_clients)
    order = np.argsort(assignment, kind="stable")
    places = np.arange(max(int(counts.max()), 1))
    owned = places < counts[:, None]
    first = np.cumsum(counts) - counts
    return order[np.where(owned, first[:, None] + places, 0)], owned


def _needed_rates(phase: Phase, deadline_s: float) -> Floats:
    """Return the rate each client needs to be done at a deadline; infinite if it is too early."""
    left = deadline_s - phase.compute_s
    with np.errstate(divide="ignore"):
        rates = np.where(left > 0.0, phase.bits / np.where(left > 0.0, left, 1.0), np.inf)
    return np.where(phase.bits > 0.0, rates, 0.0)


def _meet_sum(phase: Phase, filling: WaterFilling, early: float, late: float) -> float:
    """Return the deadline at which all clients together need just the limit on the sum.

    ``early`` needs more and ``late`` no more than that. Newton steps on the
    logarithm, which is nearly straight; a step that leaves the bracket or does
    not shrink it by half is replaced by bisection.
    """
    deadline, before = early, late - early
    for _ in range(_MAX_STEPS):
        rates = _needed_rates(phase, deadline)
        powers, slopes = filling.min_power_and_slope(rates)
        together = float(powers.sum())
        excess = float(np.log(together / phase.max_total_tx_power_w))
        if abs(excess) <= _TOLERANCE:
            return deadline
        if excess > 0.0:
            early = deadline
        else:
            late = deadline
        left = np.where(phase.bits > 0.0, deadline - phase.compute_s, 1.0)
        slope = -float((slopes * rates / left).sum()) / together
        step = -excess / slope if slope < 0.0 else np.inf
        if not early < deadline + step < late or abs(step) > 0.5 * before:
            step = 0.5 * (early + late) - deadline
        before = abs(step)
        if before <= _TOLERANCE * deadline:
            return late if excess > 0.0 and step < 0.0 else deadline + step
        deadline += step
    return late


def _within_limits(phase: Phase, assignment: Ints, tx_power_w: Floats) -> Floats:
    """Take back what rounding put above a limit."""
    powers = np.bincount(assignment, weights=tx_power_w, minlength=phase.num_clients)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(powers > phase.max_tx_power_w, phase.max_tx_power_w / powers, 1.0)
    tx_power_w = tx_power_w * scale[assignment]
    return tx_power_w * min(1.0, phase.max_total_tx_power_w / max(float(tx_power_w.sum()), 1e-300))


def _refuse(phase: Phase, client: int, filling: WaterFilling, deadline_s: float) -> None:
    """Say which client lacks how much."""
    needed = float(filling.min_power(_needed_rates(phase, deadline_s))[client])
    limit = float(phase.max_tx_power_w[client])
    when = "ever" if deadline_s == _LATEST_S else f"within {deadline_s:.6g} s"
    if np.isfinite(needed):
        missing = f"needs {needed:.6g} W; its limit is {limit:.6g} W, so {needed - limit:.6g} W are missing"
    elif (phase.gains[client] > 0.0).any():
        missing = f"would need more power than a float holds; its limit is {limit:.6g} W"
    else:
        missing = f"hears nothing, its gain is 0; its limit is {limit:.6g} W and inf W are missing"
    raise AllocationError(
        f"{phase.link}: to send {phase.bits[client]:.6g} bit {when}, client {client} {missing}; "
        "raise its power limit, bring it nearer, or widen the link."
    )


def _refuse_sum(phase: Phase, filling: WaterFilling, deadline_s: float) -> None:
    """Say how much the limit on the sum lacks, and who needs most of it."""
    needed = filling.min_power(_needed_rates(phase, deadline_s))
    together, limit = float(needed.sum()), phase.max_total_tx_power_w
    when = "ever" if deadline_s == _LATEST_S else f"within {deadline_s:.6g} s"
    raise AllocationError(
        f"{phase.link}: to be done {when}, all clients together need {together:.6g} W, client "
        f"{int(needed.argmax())} the most; the limit on the sum is {limit:.6g} W, so "
        f"{together - limit:.6g} W are missing; raise it, or widen the link."
    )
