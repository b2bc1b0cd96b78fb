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
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cosim.allocation.sparsity.curves import Curves
from cosim.allocation.sparsity.sharing import Shares, share_band
from cosim.allocation.sparsity.uplink import Uplink
from cosim.units import Floats

_NUM_POINTS = 24
_SHORTEST = 1e-4  # first point of the grid as a share of the longest useful airtime
_COARSE = 1e-3  # of the band: all the first look has to see is where the best lies
_TOLERANCE = 1e-9
_MOST_STEPS = 40
_NUM_BETWEEN = 7
_AROUND = 0.06  # of a stretch, on both sides of where its end is expected
_NARROW = 1e-6
_MARGIN = 1.01  # a first look may be off by as much


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

    The deadline is looked for on a grid, even in the logarithm of the airtime it
    leaves the last to begin, and then found between the neighbours of the best point
    by the slopes, until the tangents of both sides leave nothing to be won.

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

    points = np.minimum(begin + np.exp(np.linspace(low, high, _NUM_POINTS)), latest)
    shares = share_band(uplink, curves.coarse(), points, tolerance=_COARSE)
    values, rises = total(shares), weight * shares.slope_per_s + queue_s
    looked = [_Tried(*one) for one in zip(points.tolist(), values.tolist(), rises.tolist(), strict=True)]
    at = int(values.argmin())
    stretches = _promising([looked], _MARGIN * looked[at].value)
    stretches = list({*stretches, *pairwise(looked[max(at - 1, 0) : at + 2])})
    near = np.unique(np.concatenate([first.around(last) for first, last in stretches]))
    known: dict[float, _Tried] = {}
    best: Round | None = None
    for _ in range(_MOST_STEPS):
        shares = share_band(uplink, curves, near)
        values, rises = total(shares), weight * shares.slope_per_s + queue_s
        here = [_Tried(*one) for one in zip(near.tolist(), values.tolist(), rises.tolist(), strict=True)]
        if best is None or min(here).value < min(known.values()).value:
            best = _one(shares, int(values.argmin()))
        known.update((one.deadline_s, one) for one in here)
        split = [
            sorted(
                (one for at, one in known.items() if first.deadline_s <= at <= last.deadline_s),
                key=lambda one: one.deadline_s,
            )
            for first, last in stretches
        ]
        stretches = _promising(split, min(known.values()).value)
        if not stretches:
            break
        near = np.unique(np.concatenate([first.between(last) for first, last in stretches]))
    assert best is not None
    return best


def _promising(tried: list[list["_Tried"]], least: float) -> list[tuple["_Tried", "_Tried"]]:
    """Return the neighbours among deadlines between which a total below the least one may lie."""
    pairs = [pair for several in tried for pair in pairwise(several)]
    return [(first, last) for first, last in pairs if first.gain(last, least) > _TOLERANCE * least]


class _Tried(NamedTuple):
    """A deadline that was tried; ordered by what it costs in all."""

    deadline_s: float
    value: float
    rise: float

    def __lt__(self, other: tuple[float, ...]) -> bool:
        return self.value < other[1]

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

    def around(self, later: "_Tried") -> Floats:
        """Return both deadlines and those to try next in between."""
        return np.concatenate([[self.deadline_s, later.deadline_s], self.between(later)])

    def between(self, later: "_Tried") -> Floats:
        """Return deadlines to try next: around a secant on the slope, by the tangents, and half way.

        The first close in on a smooth minimum, the next finds a kink, the last ends the search for certain.
        """
        first, last = self.deadline_s, later.deadline_s
        if not self.brackets(later):
            return np.linspace(first, last, _NUM_BETWEEN + 2)[1:-1]
        secant = first - self.rise * (last - first) / (later.rise - self.rise)
        near = (last - first) * _AROUND
        points = np.array(
            [secant - near, secant, secant + near, self.crossing_s(later), 0.5 * (first + last)]
        )
        return np.unique(np.clip(points, first, last))


def _one(shares: Shares, at: int) -> Round:
    return Round(
        deadline_s=float(shares.deadline_s[at]),
        bandwidth_hz=shares.bandwidth_hz[at],
        bits=shares.bits[at],
        unsent=float(shares.unsent[at]),
        slope_per_s=float(shares.slope_per_s[at]),
    )
