"""When a round should end: what is left unsent by ending early against the queue of seconds run late.

Drift plus penalty: a virtual queue counts the seconds by which rounds so far ran
over the long-term limit, and each round minimises ``weight * unsent + queue *
latency`` over deadline, bandwidths and sparsification ratios.

Source
------
M. J. Neely, "Stochastic network optimization with application to communication
and queueing systems", Morgan & Claypool, 2010, ch. 4; as in method card 2
(soft_tsfa), sections 8.3 and 8.4. The slope of the unsent energy in the deadline,
which ends the search, and the search between an empty and a dense upload are ours.
"""

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cosim.control.solvers.sparsity.curves import Curves
from cosim.control.solvers.sparsity.descent import Spot, lows
from cosim.control.solvers.sparsity.sharing import Sale, Sold, sent_by
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats

_NUM_POINTS = 24
_SHORTEST = 1e-4  # first point of the grid as a share of the longest useful airtime
_TOLERANCE = 1e-9
_MOST_TRIES = 200
_NARROW = 1e-6
_NUM_BETWEEN = 4
_LITTLE = 1e-300
_MARGIN = 1.01  # so near to the best, a look is followed by others
_AROUND = (0.97, 1.0, 1.03)  # airtimes near a place that smooth curves showed
_FARTHER = 1.1
_FLAT = 5e-4  # a total above the least one, up to which others as low may follow
_FINE = 0.025  # of the airtime: from one look to the next where it is flat
_MOST_FLAT = 40


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
    sold = Sale(uplink, curves.pieces()).by(max(deadline_s, earliest))
    return _told(uplink, curves, sold.deadline_s, sold.widths_hz, sold.slope_per_s)


def best_round(
    uplink: Uplink, curves: Curves, *, weight: float, queue_s: float, max_s: float = np.inf
) -> Round:
    """Return the round with the least ``weight * unsent + queue_s * deadline``.

    Curves without kinks have few lowest places, found by steps on all unknowns at once.
    Others are searched near the lowest places of smooth curves close to them, or, if
    they have none, on a grid, even in the logarithm of the airtime it leaves the last
    to begin: between neighbours by the slopes, until the tangents of both sides leave
    nothing to be won. As with kinks several lowest places lie close together, looks are
    taken around the best as far as the total is nearly as low; none of 3000 random
    rounds was worse than a fine grid by more than 1e-9. It is no proof.

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
    pieces, smooth = curves.pieces(), curves.smooth()
    found: list[Spot] = []
    if smooth and weight > 0.0 and queue_s > 0.0:
        with suppress(ArithmeticError, ValueError):  # numbers far beyond any cell's: the grid takes them
            found = lows(uplink, smooth, queue_s / weight)
    least = min((one.total for one in found), default=0.0)
    found = [one for one in found if one.total <= _MARGIN * least]
    if any(one.deadline_s > max_s for one in found):
        found = []
    if found and smooth is pieces:
        low = min(found, key=lambda one: one.total)
        return _told(uplink, curves, low.deadline_s, low.widths_hz, low.rise - queue_s / weight)
    search = _Search(Sale(uplink, pieces), weight, queue_s)
    if found:
        several = [search.around(one.deadline_s, one.air_s, max_s) for one in found]
    else:
        several = [search.grid(uplink, curves, max_s)]
    best = search.refined(several, float(uplink.start_s.max()), max_s)
    return _told(uplink, curves, best.deadline_s, best.widths_hz, best.slope_per_s)


class _Search:
    """What was tried so far of the deadlines of one round."""

    def __init__(self, sale: Sale, weight: float, queue_s: float) -> None:
        self._sale, self._weight, self._queue_s = sale, weight, queue_s
        self._best: _Tried | None = None

    def grid(self, uplink: Uplink, curves: Curves, max_s: float) -> list["_Tried"]:
        """Return looks from the earliest to the latest deadline of use."""
        payloads = np.stack([uplink.overhead_bits, uplink.overhead_bits + curves.useful_bits])
        earliest, dense = uplink.earliest_s(payloads).tolist()
        latest = max(min(dense, max_s), earliest)
        begin = float(uplink.start_s.max())
        low = np.log(max(earliest - begin, _SHORTEST * (latest - begin), 1e-12))
        high = np.log(max(latest - begin, 1e-12))
        points = np.minimum(begin + np.exp(np.linspace(low, high, _NUM_POINTS)), latest)
        looked = [self.tried(one) for one in np.unique(points).tolist()]
        assert self._best is not None
        least = _MARGIN * self._best.value
        near = [
            self.tried(point)
            for first, last in pairwise(looked)
            if self._best in (first, last) or first.gain(last, least) > 0.0
            for point in np.linspace(first.deadline_s, last.deadline_s, _NUM_BETWEEN + 2)[1:-1].tolist()
        ]
        return sorted({*looked, *near}, key=lambda one: one.deadline_s)

    def around(self, deadline_s: float, air_s: float, max_s: float) -> list["_Tried"]:
        """Return looks around a deadline, as far as it takes for the total to rise on both sides."""
        begin = deadline_s - air_s
        looked = [self.tried(min(begin + air_s * part, max_s)) for part in _AROUND]
        while looked[0].rise > 0.0 and looked[0].air(begin) > _SHORTEST * air_s:
            looked.insert(0, self.tried(begin + looked[0].air(begin) / _FARTHER))
        while looked[-1].rise < 0.0 and looked[-1].deadline_s < max_s:
            looked.append(self.tried(min(begin + looked[-1].air(begin) * _FARTHER, max_s)))
        return looked

    def tried(self, deadline_s: float) -> "_Tried":
        """Return what a deadline costs."""
        sold = self._sale.by(deadline_s)
        # Not even with no weight is a round good in which overheads do not get through.
        total = self._queue_s * deadline_s + (self._weight or _LITTLE) * sold.unsent
        rise = self._queue_s + (self._weight or _LITTLE) * sold.slope_per_s
        tried = _Tried(deadline_s, total, rise, sold)
        if self._best is None or tried.value < self._best.value:
            self._best = tried
        return tried

    def refined(self, several: list[list["_Tried"]], begin_s: float, max_s: float) -> Sold:
        """Return the best sharing between neighbours among looks, and where it is flat around that."""
        self._narrow(several)
        assert self._best is not None
        self._narrow([self._flat(self._best, begin_s, max_s)])
        return self._best.sold

    def _flat(self, best: "_Tried", begin_s: float, max_s: float) -> list["_Tried"]:
        """Return looks on both sides of the best, close to each other, until the total is well above it."""
        step_s = _FINE * best.air(begin_s)
        looked = [best]
        for side, place in ((-step_s, 0), (step_s, None)):
            for number in range(1, _MOST_FLAT + 1):
                deadline_s = best.deadline_s + number * side
                if deadline_s > max_s:
                    break
                one = self.tried(deadline_s)
                looked.insert(len(looked) if place is None else place, one)
                if one.value > (1.0 + _FLAT) * best.value:
                    break
        return looked

    def _narrow(self, several: list[list["_Tried"]]) -> None:
        """Look between neighbours, the most promising stretch first, until nothing is to be won."""
        assert self._best is not None
        stretches = [pair for looked in several for pair in pairwise(looked)]
        for _ in range(_MOST_TRIES):
            gains = [first.gain(last, self._best.value) for first, last in stretches]
            gain = max(gains, default=0.0)
            if gain <= _TOLERANCE * self._best.value:
                break
            first, last = stretches.pop(gains.index(gain))
            middle = self.tried(first.between(last))
            stretches += [(first, middle), (middle, last)]


@dataclass(frozen=True, eq=False)
class _Tried:
    """A deadline that was tried: what it costs in all, and what that rises by per second."""

    deadline_s: float
    value: float
    rise: float
    sold: Sold

    def air(self, begin_s: float) -> float:
        """Return how long it leaves the last to begin, s."""
        return self.deadline_s - begin_s

    def crossing_s(self, later: "_Tried") -> float:
        """Return where the tangents of two deadlines cross, s."""
        apart = later.value - self.value + self.rise * self.deadline_s - later.rise * later.deadline_s
        return apart / (self.rise - later.rise)

    def brackets(self, later: "_Tried") -> bool:
        """Return whether the total falls from the one and rises to the other as a convex one may."""
        if not -np.inf < self.rise < 0.0 <= later.rise:
            return False
        return self.lowest(later) <= min(self.value, later.value)

    def lowest(self, later: "_Tried") -> float:
        """Return what the total is not below in between, where it is convex."""
        return self.value + self.rise * (self.crossing_s(later) - self.deadline_s)

    def gain(self, later: "_Tried", least: float) -> float:
        """Return by how much a total in between may lie below the least one."""
        is_narrow = later.deadline_s - self.deadline_s <= _NARROW * later.deadline_s
        if self.rise >= 0.0 or later.rise < 0.0:
            return 0.0  # it rises from the one, or falls to the other: any minimum has other neighbours
        if not self.brackets(later):
            return 0.0 if is_narrow else np.inf
        return least - self.lowest(later)

    def between(self, later: "_Tried") -> float:
        """Return the deadline to try next: where tangents cross, off both ends; or half way."""
        first, last = self.deadline_s, later.deadline_s
        if not self.brackets(later):
            return 0.5 * (first + last)
        off = 0.02 * (last - first)
        return min(max(self.crossing_s(later), first + off), last - off)


def _told(
    uplink: Uplink, curves: Curves, deadline_s: float, widths_hz: list[float], slope_per_s: float
) -> Round:
    """Return a round of these widths, brought down to the band where a rounding puts them over it."""
    widths = np.array(widths_hz)
    widths *= min(uplink.bandwidth_hz / float(widths.sum()), 1.0)
    bits = sent_by(uplink, curves, widths, np.asarray(deadline_s))
    return Round(deadline_s, widths, bits, float(curves.remaining(bits).sum()), slope_per_s)
