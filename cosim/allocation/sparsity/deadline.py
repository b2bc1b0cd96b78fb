"""When a round should end: what is left unsent by ending early against the queue of seconds run late.

Drift plus penalty: a virtual queue counts the seconds by which rounds so far ran
over the long-term limit, and each round minimises ``weight * unsent + queue *
latency`` over deadline, bandwidths and keep ratios.

Source
------
M. J. Neely, "Stochastic network optimization with application to communication
and queueing systems", Morgan & Claypool, 2010, ch. 4; as in method card 2
(soft_tsfa), sections 8.3 and 8.4. The slope of the unsent energy in the deadline,
which ends the search, and the search between an empty and a dense upload are ours.
"""

from dataclasses import dataclass

import numpy as np

from cosim.allocation.sparsity.curves import Curves
from cosim.allocation.sparsity.sharing import Shares, share_band
from cosim.allocation.sparsity.uplink import Uplink
from cosim.units import Floats

_NUM_POINTS = 24
_REFINEMENTS = 0
_SHORTEST = 1e-4  # first point of the grid as a share of the longest useful airtime
_TOLERANCE = 1e-12
_MOST_STEPS = 60


@dataclass(frozen=True, eq=False)
class Round:
    """One round as decided.

    Attributes
    ----------
    deadline_s
        When all uploads are to be done, s.
    bandwidth_hz
        Of each client, Hz, shape (num_clients,).
    bits
        What each sends on top of its overhead, shape (num_clients,).
    unsent
        Weighted energy left unsent.
    slope_per_s
        What one more second would add to it, not positive, 1/s.
    """

    deadline_s: float
    bandwidth_hz: Floats
    bits: Floats
    unsent: float
    slope_per_s: float


def next_queue_s(queue_s: float, latency_s: float, limit_s: float) -> float:
    """Return the virtual queue after a round, s: what ran over the limit, less what was saved.

    Over any number of rounds the mean latency is at most the limit plus what the
    queue has grown by, over their number.
    """
    return max(queue_s + latency_s - limit_s, 0.0)


def round_by(uplink: Uplink, curves: Curves, deadline_s: float) -> Round:
    """Return the best round that ends by a deadline.

    Where not even the overhead gets through by then, it is the one that ends as early as possible.
    """
    earliest = float(uplink.earliest_s(uplink.overhead_bits))
    return _one(share_band(uplink, curves, np.array([max(deadline_s, earliest)])), 0)


def best_round(
    uplink: Uplink, curves: Curves, *, weight: float, queue_s: float, max_s: float = np.inf
) -> Round:
    """Return the round with the least ``weight * unsent + queue_s * deadline``.

    The deadline is searched on a grid, even in the logarithm of the airtime it
    leaves the last to begin, which is refined around its best point; where the
    slope changes sign around that, a secant on it ends the search.

    Parameters
    ----------
    uplink, curves
        Who sends over what, and what each loses by sending less.
    weight
        Weight of the unsent energy, s, not negative.
    queue_s
        Virtual queue, s, not negative.
    max_s
        Latest deadline, s. Where not even the overheads get through by then, the
        round ends as early as possible.
    """
    payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + curves.useful_bits])
    earliest, dense = uplink.earliest_s(payloads).tolist()
    latest = max(min(dense, max_s), earliest)
    begin = float(uplink.start_s.max())
    low, high = (
        np.log(max(earliest - begin, _SHORTEST * (latest - begin), 1e-12)),
        np.log(max(latest - begin, 1e-12)),
    )

    def total(shares: Shares) -> Floats:
        return np.asarray(weight * shares.unsent + queue_s * shares.deadline_s)

    def look(first: float, last: float, number: int) -> Shares:
        points = np.minimum(begin + np.exp(np.linspace(first, last, number)), latest)
        return share_band(uplink, curves, points)

    shares = look(low, high, _NUM_POINTS)
    for _ in range(_REFINEMENTS):
        at = int(total(shares).argmin())
        around = shares.deadline_s[[max(at - 1, 0), min(at + 1, _NUM_POINTS - 1)]] - begin
        low, high = np.log(np.maximum(around, 1e-12))
        shares = look(low, high, _NUM_POINTS)
    at = int(total(shares).argmin())
    best, value = _one(shares, at), float(total(shares)[at])
    near = slice(max(at - 1, 0), at + 2)
    left, right = shares.deadline_s[near][[0, -1]].tolist()
    left_rise, right_rise = (weight * shares.slope_per_s[near] + queue_s)[[0, -1]].tolist()
    side = 0
    for step in range(_MOST_STEPS):
        # Where the total is convex, no point in between lies further below the best than this.
        gain = min(-left_rise, right_rise) * (right - left)
        if not left_rise < 0.0 < right_rise or gain <= _TOLERANCE * value:
            break
        deadline = left - left_rise * (right - left) / (right_rise - left_rise)
        if step % 3 == 2 or not left < deadline < right:
            deadline = 0.5 * (left + right)
        tried = share_band(uplink, curves, np.array([deadline]))
        if total(tried)[0] < value:
            best, value = _one(tried, 0), float(total(tried)[0])
        rise = float(weight * tried.slope_per_s[0] + queue_s)
        if rise == 0.0:
            break
        if rise < 0.0:  # the Illinois rule: a side that stays twice counts half
            left, left_rise, right_rise = deadline, rise, right_rise * (0.5 if side < 0 else 1.0)
            side = -1
        else:
            right, right_rise, left_rise = deadline, rise, left_rise * (0.5 if side > 0 else 1.0)
            side = 1
    return best


def _one(shares: Shares, at: int) -> Round:
    return Round(
        deadline_s=float(shares.deadline_s[at]),
        bandwidth_hz=shares.bandwidth_hz[at],
        bits=shares.bits[at],
        unsent=float(shares.unsent[at]),
        slope_per_s=float(shares.slope_per_s[at]),
    )
