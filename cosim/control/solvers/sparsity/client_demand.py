"""One client of a round in plain numbers: how much band it takes at a price, by a deadline.

There are few clients, so numbers are faster than arrays. What a client does
follows from its spectral efficiency ``u`` in nats: of its SNR in one hertz ``c`` follow
its bandwidth ``c / (e^u - 1)``, its rate ``bandwidth * u`` and what one more hertz
adds to that, ``u - 1 + e^-u``, all from one exponential. Inside a piece of a curve
the logarithm of what the last hertz is worth is concave in ``u``, so that Newton
steps overshoot once at most.

Source
------
Method card 2 (soft_tsfa), section 8.4; the efficiency as the unknown is ours.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import exp, expm1, inf, log, log1p
from typing import NamedTuple

from cosim.control.solvers.sparsity.uplink import Uplink

LN2 = log(2.0)
SMALL = 0.02  # from here down a series has more digits
_LEAST = 5e-324  # whatever the logarithm of this is, there is one
_NEAR = 1e-8  # a Newton step so short leaves nothing to be made up for
_MOST_STEPS = 60
_LEAST_SHARE = 1e-12  # of the band: what a client without overhead has at least
_MOST_SHARE = 8.0  # more than the whole band is never to be had, and not confused with it


class Pieces(NamedTuple):
    """A curve in pieces along which what a bit is worth falls exponentially, or not at all.

    Attributes
    ----------
    ends
        Where pieces begin and end, bits, from 0 on; one more than there are pieces.
    rests
        Energy left unsent there.
    log_worth
        Natural logarithm of what the first bit of each piece saves.
    falls
        What that logarithm falls by with each further bit, not negative.
    """

    ends: list[float]
    rests: list[float]
    log_worth: list[float]
    falls: list[float]

    def smoothed(self, num_pieces: int) -> "Pieces":
        """Return a curve without kinks close to this one, of at most so many pieces, short where steep."""
        last = len(self.log_worth) - 1
        cuts = sorted({round((at / num_pieces) ** 2 * (last + 1)) for at in range(num_pieces + 1)})
        worth = [0.5 * (self.log_worth[max(at - 1, 0)] + self.log_worth[min(at, last)]) for at in cuts]
        ends, rests, falls = [self.ends[at] for at in cuts], [self.rests[-1]], []
        for at in reversed(range(len(cuts) - 1)):
            size, drop = ends[at + 1] - ends[at], worth[at] - worth[at + 1]
            rests.append(rests[-1] + exp(worth[at]) * saved(drop / size, size))
            falls.append(drop / size)
        return Pieces(ends, rests[::-1], worth[:-1], falls[::-1])


def saved(fall: float, size: float) -> float:
    """Return what bits save, over what the first of them does, which falls exponentially."""
    size = max(size, 0.0)
    return -expm1(-fall * size) / fall if fall > 0.0 else size


def rate_bend(efficiency: float) -> float:
    """Return ``u - 1 + exp(-u)``, by its series where the difference would lose its digits.

    Examples
    --------
    >>> rate_bend(1.0) == exp(-1.0)
    True
    """
    u = efficiency
    if u > SMALL:
        return u + expm1(-u)
    return _LEAST + u * u * (0.5 - u * (1 / 6 - u * (1 / 24 - u * (1 / 120 - u * (1 / 720 - u / 5040)))))


def efficiency_for(share: float) -> float:
    """Return the efficiency ``u`` at which ``u / (exp(u) - 1)``, the share of the highest rate, is ``share``.

    0 from a share of 1 on, which no bandwidth reaches; infinite for none.

    Examples
    --------
    >>> round(efficiency_for(1.0 / expm1(1.0)), 12)
    1.0
    """
    if not 0.0 < share < 1.0:
        return 0.0 if share > 0.0 else inf
    goal = log(share)
    u = log1p(-goal) - goal
    for _ in range(_MOST_STEPS):
        grown = expm1(u)
        step = u * (log(u / grown) - goal) / (u * (grown + 1.0) / grown - 1.0)
        u += step
        if abs(step) <= _NEAR * u:
            break
    return u


def plain(uplink: Uplink, pieces: Sequence[Pieces]) -> Iterator[tuple[float, float, float, Pieces]]:
    """Yield SNR in one hertz, start, overhead and curve of each client, in plain numbers.

    One that sends nothing may have no SNR at all; then it has one that does no harm.
    """
    for snr_hz, start_s, overhead_bits, one in zip(
        uplink.snr_hz.tolist(), uplink.start_s.tolist(), uplink.overhead_bits.tolist(), pieces, strict=True
    ):
        sends = overhead_bits + one.ends[-1] > 0.0
        yield snr_hz if sends else uplink.bandwidth_hz, start_s, overhead_bits, one


class ClientDemand:
    """A client that takes bandwidth until one more hertz saves no more energy than it costs.

    Along its curve the last hertz is worth less and less. Every piece has two places:
    what it is worth where the piece begins, and where it ends. At a price between the
    two the client stops inside the piece; at one between the end of a piece and the
    beginning of the next, at that end.

    Attributes
    ----------
    efficiency
        Spectral efficiency when it last took something, nats.
    place
        The first place that was not worth the price then.
    next_lower, next_higher
        Logarithms of the prices around it at which that is another place.
    """

    def __init__(
        self, snr_hz: float, start_s: float, overhead_bits: float, pieces: Pieces, band_hz: float
    ) -> None:
        """Take a client's part of an uplink, its curve, and the width of the whole band."""
        self.snr_hz, self.start_s = snr_hz, start_s
        # Nats rather than bits from here on, counted with the overhead.
        self._ends = [(overhead_bits + end) * LN2 for end in pieces.ends]
        self._begin_worth = [one - log(LN2) for one in pieces.log_worth]
        self._falls = [one / LN2 for one in pieces.falls]
        sizes = [end - begin for begin, end in pairwise(self._ends)]
        self._end_worth = [
            worth - fall * size
            for worth, fall, size in zip(self._begin_worth, self._falls, sizes, strict=True)
        ]
        self._rests = pieces.rests
        self._last_place = 2 * len(sizes)
        self._highest = log1p(snr_hz / (_LEAST_SHARE * band_hz))
        self._lowest = log1p(snr_hz / (_MOST_SHARE * band_hz))
        self.efficiency, self.place = 1.0, 0
        self.left_s, self._held_hz = 1.0, 0.0
        self.next_lower = self.next_higher = inf
        self._marks: dict[int, tuple[float, float]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it last took no more than its overhead needs."""
        return self.place == 0

    @property
    def is_full(self) -> bool:
        """Whether it last took all that is of use to it."""
        return self.place == self._last_place

    def open(self, left_s: float) -> None:
        """Begin again with this long to the deadline, s."""
        self.left_s = left_s
        self._marks = {}
        self.next_lower = self.next_higher = inf

    def take(self, log_price: float) -> tuple[float, float]:
        """Return the bandwidth taken at a price, Hz, and what it changes by with the logarithm of the price.

        ``log_price`` is the natural logarithm of energy per Hz.
        """
        if not self.next_lower <= log_price < self.next_higher:
            self.place = place = self._first_too_dear(log_price)
            self.next_lower = self._worth_at(place) if place < self._last_place else -inf
            self.next_higher = self._worth_at(place - 1) if place > 0 else inf
            if place % 2 == 0:
                self.efficiency, _ = self._mark(place // 2)
                self._held_hz = self.width_hz()
        if self.place % 2:
            return self._inside(self.place // 2, log_price)
        return self._held_hz, 0.0

    def marginal_value(self, width_hz: float) -> float:
        """Return the logarithm of what the last hertz of a bandwidth is worth, and begin from there."""
        self.efficiency = u = log1p(self.snr_hz / width_hz)
        nats = self.left_s * width_hz * u
        if not self._falls:
            return 0.0
        piece = min(max(bisect_left(self._ends, nats) - 1, 0), len(self._falls) - 1)
        self.place = 2 * piece + 1
        nats = min(max(nats, self._ends[piece]), self._ends[piece + 1])
        worth = self._begin_worth[piece] - self._falls[piece] * (nats - self._ends[piece])
        return worth + log(self.left_s * rate_bend(u))

    def freed_hz(self) -> float:
        """Return the bandwidth that one more second frees with as much sent as last, Hz/s."""
        u = self.efficiency
        return self.width_hz() * u / (self.left_s * rate_bend(u)) if u < self._highest else 0.0

    def width_hz(self) -> float:
        """Return the bandwidth last taken, Hz."""
        return self.snr_hz / expm1(self.efficiency)

    def unsent(self) -> float:
        """Return the energy left unsent with the bandwidth last taken."""
        piece = self.place // 2
        if self.place % 2 == 0:
            return self._rests[piece]
        nats = self.left_s * self.width_hz() * self.efficiency
        fall, sent = self._falls[piece], nats - self._ends[piece]
        worth = exp(self._begin_worth[piece] - fall * sent)
        return self._rests[piece + 1] + worth * saved(fall, self._ends[piece + 1] - nats)

    def _first_too_dear(self, log_price: float) -> int:
        """Return the first place not worth the price, searched in growing strides from the last one found."""
        low, high, stride = 0, self._last_place, 1
        probe = self.place
        while low < high:
            probe = min(max(probe, low), high - 1)
            if self._worth_at(probe) > log_price:
                low = probe + 1
                probe = probe + stride if high == self._last_place else (low + high) // 2
            else:
                high = probe
                probe = probe - stride if low == 0 else (low + high) // 2
            stride *= 2
        return low

    def _worth_at(self, place: int) -> float:
        """Return the logarithm of what the last hertz is worth at a place."""
        piece = place // 2
        if place % 2:
            return self._end_worth[piece] + self._mark(piece + 1)[1]
        return self._begin_worth[piece] + self._mark(piece)[1]

    def _mark(self, end: int) -> tuple[float, float]:
        """Return the efficiency that just reaches an end, and the logarithm of a hertz's nats there."""
        found = self._marks.get(end)
        if found is None:
            u = min(efficiency_for(self._ends[end] / (self.left_s * self.snr_hz)), self._highest)
            found = (u, log(self.left_s * rate_bend(u))) if u > self._lowest else (self._lowest, -inf)
            self._marks[end] = found
        return found

    def _inside(self, piece: int, log_price: float) -> tuple[float, float]:
        """Return what is taken inside a piece, which the price is known to lie in."""
        high, low = self._mark(piece)[0], self._mark(piece + 1)[0]
        snr_hz, left_s, fall, begin = self.snr_hz, self.left_s, self._falls[piece], self._ends[piece]
        goal = log_price - self._begin_worth[piece]
        u = min(max(self.efficiency, low), high)
        for _ in range(_MOST_STEPS):
            part = -expm1(-u)
            width, bend = snr_hz * (1.0 - part) / part, rate_bend(u)
            lost = width / part  # by one more nat
            rise = part / bend + fall * left_s * lost * bend
            step = (goal - log(left_s * bend) + fall * (left_s * width * u - begin)) / rise
            u = min(max(u + step, low), high)
            if -_NEAR * u <= step <= _NEAR * u:
                break
        self.efficiency = u
        return width - lost * step, -lost / rise
