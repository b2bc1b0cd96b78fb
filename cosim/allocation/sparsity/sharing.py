"""The band of one round shared for the least energy left unsent by a given deadline.

For a deadline the problem is convex, and one price per Hz shares the band: each
client takes bandwidth until one more hertz saves no more energy than the price.
The price at which all of the band is taken is found for many deadlines at once.

Source
------
Method card 2 (soft_tsfa), section 8.4, with Newton steps kept inside a bracket in
the place of bisection, overhead bits, and curves of straight pieces.
"""

from dataclasses import dataclass

import numpy as np

from cosim.allocation.sparsity.curves import Curves, Demand, Window
from cosim.allocation.sparsity.flat_rate import flat_rate, rate_slope
from cosim.allocation.sparsity.uplink import Uplink
from cosim.units import Floats

_TOLERANCE = 1e-13
_MOST_STEPS = 200
_NEAR = 1e-5  # how far, in logarithms, a guessed price may be off
_TIGHT = 1e-9  # so near to what is just possible there is nothing left to share
_LEAST_SHARE = 1e-12  # of the band: what a client without overhead has at least


@dataclass(frozen=True, eq=False)
class Shares:
    """The best sharing for each of some deadlines.

    Attributes
    ----------
    deadline_s
        The deadlines, s, shape (num_deadlines,).
    bandwidth_hz
        Of each client, Hz, shape (num_deadlines, num_clients).
    bits
        What each sends on top of its overhead, shape (num_deadlines, num_clients).
    unsent
        Weighted energy left unsent, shape (num_deadlines,); infinite where not
        even the overhead gets through.
    slope_per_s
        What one more second adds to it, not positive, 1/s, shape (num_deadlines,).
    """

    deadline_s: Floats
    bandwidth_hz: Floats
    bits: Floats
    unsent: Floats
    slope_per_s: Floats


def share_band(
    uplink: Uplink, curves: Curves, deadline_s: Floats, *, tolerance: float = _TOLERANCE
) -> Shares:
    """Return the best sharing for each deadline.

    Parameters
    ----------
    uplink
        Who sends over what.
    curves
        What each loses by sending less.
    deadline_s
        Deadlines, s, shape (num_deadlines,).
    tolerance
        How near to the whole band what is shared comes, as a share of it.
    """
    deadline_s = np.atleast_1d(np.asarray(deadline_s, dtype=float))
    left_s = np.maximum(deadline_s[:, None] - uplink.start_s, 1e-300)
    band = uplink.bandwidth_hz
    overhead = np.broadcast_to(uplink.overhead_bits, left_s.shape)
    floor = np.maximum(uplink.needed_hz(overhead, deadline_s[:, None]), _LEAST_SHARE * band)
    enough = uplink.needed_hz(overhead + curves.useful_bits, deadline_s[:, None])
    most = np.maximum(np.minimum(enough, band), floor)
    feasible = (floor.sum(axis=1) <= band * (1.0 + _TIGHT)) & (deadline_s > uplink.start_s.max())
    is_tight = floor.sum(axis=1) >= band * (1.0 - _TIGHT)
    rows = np.flatnonzero(feasible & ~is_tight & (most.sum(axis=1) > band * (1.0 + _TIGHT)))
    bandwidth_hz = np.where((feasible & ~is_tight)[:, None], most, np.minimum(floor, band))
    bandwidth_hz = bandwidth_hz * np.minimum(band / bandwidth_hz.sum(axis=1, keepdims=True), 1.0)
    price = np.where(is_tight, np.inf, 0.0)
    if len(rows):
        window = Window(uplink.snr_hz, uplink.overhead_bits, left_s[rows])
        bandwidth_hz[rows], price[rows] = _at_the_price(
            uplink, curves, window, floor[rows], most[rows], tolerance
        )
    rates = flat_rate(uplink.snr_hz, bandwidth_hz)
    bits = np.clip(left_s * rates - uplink.overhead_bits, 0.0, curves.useful_bits)
    bits = np.where(bandwidth_hz >= enough * (1.0 - _TIGHT), curves.useful_bits, bits)
    unsent = np.where(feasible, curves.remaining(bits).sum(axis=1), np.inf)
    freed = rates / (left_s * rate_slope(uplink.snr_hz, bandwidth_hz))
    return Shares(deadline_s, bandwidth_hz, bits, unsent, -price * freed.sum(axis=1))


def _at_the_price(
    uplink: Uplink, curves: Curves, window: Window, floor: Floats, most: Floats, tolerance: float
) -> tuple[Floats, Floats]:
    """Return bandwidths that fill the band, and their price, energy per Hz, for each deadline."""
    band = uplink.bandwidth_hz

    def log_price_at(bandwidth_hz: Floats) -> Floats:
        bits = window.left_s * flat_rate(window.snr_hz, bandwidth_hz) - window.overhead_bits
        with np.errstate(divide="ignore"):
            worth = np.log(curves.worth(np.clip(bits, 0.0, curves.useful_bits)))
        return np.asarray(worth + np.log(window.left_s * rate_slope(window.snr_hz, bandwidth_hz)))

    # If each client asks for no more than an even part of what floors leave, all fit; if each asks
    # for its most, they do not. The prices of the two hold the one in between.
    spare = np.maximum(band - floor.sum(axis=1, keepdims=True), 0.0) / uplink.num_clients
    wants = most > floor
    even = np.where(wants, log_price_at(np.minimum(floor + spare, most)), -np.inf)
    dear = even.max(axis=1, keepdims=True) + 1e-9
    cheap = np.where(wants, log_price_at(most), np.inf).min(axis=1, keepdims=True) - 1e-9
    none, zero = np.zeros_like(floor), np.zeros(floor.shape, dtype=np.int64)
    least = Demand(floor, none, zero)
    largest = Demand(most, none, np.where(wants, curves.num_pieces, 0))
    found = curves.guess(window, band)
    if found is None:
        number = np.maximum(wants.sum(axis=1, keepdims=True), 1)
        log_price, near = np.where(wants, even, 0.0).sum(axis=1, keepdims=True) / number, None
        reach = np.ones_like(log_price)
    else:
        (log_price, near), reach = found, np.full((*floor.shape[:1], 1), _NEAR)
    log_price = np.clip(log_price, cheap, dear)
    has_dear = has_cheap = np.zeros(log_price.shape, dtype=np.bool_)
    demand = least
    for _ in range(_MOST_STEPS):
        demand = curves.demand(log_price, window, least, largest, near)
        near = demand.num_pieces
        excess = demand.bandwidth_hz.sum(axis=1, keepdims=True) / band - 1.0
        too_dear = excess < 0.0
        dear, cheap = np.where(too_dear, log_price, dear), np.where(too_dear, cheap, log_price)
        least, largest = demand.where(too_dear, least), largest.where(too_dear, demand)
        has_dear, has_cheap = has_dear | too_dear, has_cheap | ~too_dear
        done = (np.abs(excess) <= tolerance) | (dear - cheap <= _TOLERANCE * np.maximum(1.0, np.abs(dear)))
        if done.all():
            break
        change = demand.change_hz.sum(axis=1, keepdims=True) / band
        with np.errstate(divide="ignore", invalid="ignore"):
            # On the logarithm of what is taken, which is straighter than what is taken.
            newton = log_price - np.log1p(excess) * (1.0 + excess) / change
        # Where no client is inside a piece, feel for the other side before halving the distance to it.
        searched = np.where(too_dear, log_price - reach, log_price + reach)
        is_held = np.where(too_dear, has_cheap, has_dear) | (searched <= cheap) | (searched >= dear)
        reach = 4.0 * reach
        following = np.where(is_held, 0.5 * (cheap + dear), searched)
        following = np.where((cheap < newton) & (newton < dear), newton, following)
        log_price = np.where(done, log_price, following)
    taken = demand.bandwidth_hz
    if (np.abs(excess) > tolerance).any():
        # A price at which demand jumps in floating point: take the part between its two sides.
        gap = largest.bandwidth_hz - least.bandwidth_hz
        missing = band - least.bandwidth_hz.sum(axis=1, keepdims=True)
        part = missing / np.where(gap.sum(axis=1, keepdims=True) > 0.0, gap.sum(axis=1, keepdims=True), 1.0)
        between = least.bandwidth_hz + np.clip(part, 0.0, 1.0) * gap
        taken = np.where(np.abs(excess) > tolerance, between, taken)
    taken = taken * np.minimum(band / taken.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(taken), np.asarray(np.exp(log_price[:, 0]))
