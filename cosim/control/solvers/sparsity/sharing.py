"""The band of one round shared for the least energy left unsent by a given deadline.

For a deadline the problem is convex, and one price per Hz shares the band: each
client takes bandwidth until one more hertz saves no more energy than the price.

Source
------
Method card 2 (soft_tsfa), section 8.4, with Newton steps kept inside a bracket in
the place of bisection, overhead bits, and curves of pieces. The slope in the
deadline, which comes with the price, is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log1p
from typing import NamedTuple

import numpy as np

from cosim.control.solvers.sparsity.client_demand import ClientDemand, Pieces, plain
from cosim.control.solvers.sparsity.curves import Curves
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats

_TOLERANCE = 1e-13
_MOST_STEPS = 200
_TIGHT = 1e-9  # so near to what is just possible there is nothing left to share
_ROUNDING = 1e-10
_REACH = 4.0  # of the first steps of the price's logarithm; later ones reach farther


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


class Sold(NamedTuple):
    """The best sharing for one deadline, in plain numbers; as in :class:`Shares`."""

    deadline_s: float
    widths_hz: list[float]
    unsent: float
    slope_per_s: float


class Sale:
    """The band of one round, sold at one price per Hz for deadlines one after the other."""

    def __init__(self, uplink: Uplink, pieces: Sequence[Pieces]) -> None:
        """Take who sends over what, and the curve of each client."""
        self._band = uplink.bandwidth_hz
        self._start_s = float(uplink.start_s.max())
        self._demands = [ClientDemand(*row, self._band) for row in plain(uplink, pieces)]
        self._log_price: float | None = None

    def by(self, deadline_s: float, tolerance: float = _TOLERANCE) -> Sold:
        """Return the best sharing for a deadline.

        Parameters
        ----------
        deadline_s
            The deadline, s; near to that of the call before, it is found sooner.
        tolerance
            How near to the whole band what is shared comes, as a share of it.
        """
        demands, band = self._demands, self._band
        if deadline_s <= self._start_s:
            return Sold(deadline_s, [band / len(demands)] * len(demands), inf, 0.0)
        for one in demands:
            one.open(deadline_s - one.start_s)
        log_price = self._log_price
        if log_price is None:
            values = [one.marginal_value(band / len(demands)) for one in demands]
            log_price = sorted(values)[len(values) // 2]
        cheap, dear, reach = -inf, inf, _REACH
        for _ in range(_MOST_STEPS):
            widths, change = [], 0.0
            for one in demands:
                width, moved = one.take(log_price)
                widths.append(width)
                change += moved
            excess = sum(widths) / band - 1.0
            if -tolerance <= excess <= tolerance:
                break
            if excess < 0.0:
                if all(one.is_full for one in demands):
                    return Sold(deadline_s, widths, sum(one.unsent() for one in demands), 0.0)
                dear, too_few = log_price, widths
            else:
                if all(one.is_empty for one in demands):
                    unsent = sum(one.unsent() for one in demands) if excess <= _TIGHT else inf
                    return Sold(deadline_s, [width / (1.0 + excess) for width in widths], unsent, -inf)
                cheap, too_many = log_price, widths
            if dear - cheap <= _TOLERANCE * max(1.0, abs(log_price)):
                break
            if change < 0.0:
                # On the logarithm of what is taken, which is straighter than what is taken.
                following = log_price - log1p(excess) * (1.0 + excess) * band / change
            elif excess < 0.0:
                following = max(one.next_lower for one in demands) - 1e-9
            else:
                following = min(one.next_higher for one in demands) + 1e-9
            if not log_price - reach < following < log_price + reach:
                following = log_price + (reach if excess > 0.0 else -reach)
                reach *= 2.0
            log_price = following if cheap < following < dear else 0.5 * (cheap + dear)
        if not -tolerance <= excess <= tolerance and -inf < cheap < dear < inf:
            # Demand jumps in floating point: take the part between its two sides.
            part = (band - sum(too_few)) / (sum(too_many) - sum(too_few))
            widths = [less + part * (more - less) for less, more in zip(too_few, too_many, strict=True)]
        self._log_price = log_price
        freed = sum(one.freed_hz() for one in demands)
        return Sold(deadline_s, widths, sum(one.unsent() for one in demands), -exp(log_price) * freed)


def share_band(uplink: Uplink, curves: Curves, deadline_s: Floats) -> Shares:
    """Return the best sharing for each deadline.

    Parameters
    ----------
    uplink
        Who sends over what.
    curves
        What each loses by sending less.
    deadline_s
        Deadlines, s, shape (num_deadlines,).
    """
    sale = Sale(uplink, curves.pieces())
    deadlines = np.atleast_1d(np.asarray(deadline_s, dtype=float))
    sold = [sale.by(one) for one in deadlines.tolist()]
    widths = np.array([one.widths_hz for one in sold])
    widths = widths * np.minimum(uplink.bandwidth_hz / widths.sum(axis=1, keepdims=True), 1.0)
    bits = sent_by(uplink, curves, widths, deadlines[:, None])
    return Shares(
        deadlines,
        widths,
        bits,
        np.array([one.unsent for one in sold]),
        np.array([one.slope_per_s for one in sold]),
    )


def sent_by(uplink: Uplink, curves: Curves, bandwidth_hz: Floats, deadline_s: Floats) -> Floats:
    """Return what gets through on top of overheads; all that is of use where only a rounding is missing."""
    bits = np.maximum(uplink.carried_bits(bandwidth_hz, deadline_s) - uplink.overhead_bits, 0.0)
    return np.where(bits >= curves.useful_bits * (1.0 - _ROUNDING), curves.useful_bits, bits)
