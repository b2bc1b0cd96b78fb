"""A job: an amount of work that drains at a rate which may change while it drains."""

from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

import numpy as np

from cosim.kernel.clock import Clock
from cosim.units import NS_PER_S, Floats, drain_ns

_WINDOW_BLOCKS = 16  # looked at together: a transfer usually ends in the window it began in
_ROUNDING = 2.0**-36  # of an amount, more than a sum of floats loses: nearer than that sums are exact
_TINY = np.longdouble(np.finfo(float).tiny)
_MOST_BLOCKS = 1 << 16  # at one time, or the gains of wide grants would fill the memory
NEVER_NS = 1 << 63
"""What would end later, in 292 years, never ends: instants are recorded as 64-bit integers."""


class Rate(Protocol):
    """How fast work drains at every instant from now on."""

    def finish_ns(self, amount: Fraction | int, start_ns: int) -> int | None:
        """Return the first instant by which ``amount`` has drained from ``start_ns`` on; None if never."""

    def drained(self, start_ns: int, end_ns: int) -> Fraction:
        """Return what drains between two instants."""


class ConstantRate:
    """One rate for ever; all arithmetic is exact."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s

    def finish_ns(self, amount: Fraction | int, start_ns: int) -> int | None:
        """Return the first whole nanosecond by which ``amount`` has drained."""
        if self.per_s == 0.0:
            return None if amount else start_ns
        end_ns = start_ns + drain_ns(amount, self.per_s)
        return end_ns if end_ns < NEVER_NS else None

    def drained(self, start_ns: int, end_ns: int) -> Fraction:
        """Return rate times time."""
        return Fraction(self.per_s) * (end_ns - start_ns) / NS_PER_S


class BlockRate:
    """A rate that is constant within each block of the clock, as under block fading.

    The finishing time is found block by block to the end of a window, whose rates
    are kept for the next job, and beyond it in vectorised steps over as many blocks
    as it takes: cumulative amount, then a binary search.

    Parameters
    ----------
    block_ns
        Length of a block; block ``b`` lasts from ``b * block_ns`` on.
    rates
        ``rates(first, count)`` returns the rates per second of blocks ``first``
        to ``first + count - 1``, shape (count,).
    """

    def __init__(self, block_ns: int, rates: Callable[[int, int], Floats]) -> None:
        self._block_ns = block_ns
        self._rates = rates
        self._window_number, self._window_rates = -1, list[float]()

    def finish_ns(self, amount: Fraction | int, start_ns: int) -> int | None:
        """Return the first whole nanosecond by which ``amount`` has drained.

        None if it would take for ever at the mean rate of many thousand blocks.
        """
        if not amount:
            return start_ns
        begin_ns, first = start_ns, start_ns // self._block_ns
        left = float(amount)
        rounding = left * _ROUNDING
        for rate in self._window(first):
            first += 1
            next_ns = first * self._block_ns
            drains = rate * (next_ns - start_ns) / NS_PER_S
            if drains > left + rounding:
                return start_ns + drain_ns(left, rate)
            left -= drains
            if left <= rounding:
                exactly = amount - self.drained(begin_ns, next_ns)
                if exactly <= 0:
                    return min(start_ns + drain_ns(left + drains, rate), next_ns)
                left = float(exactly)
            start_ns = next_ns
        return self._finish_beyond(amount, begin_ns, first, left, rounding)

    def _finish_beyond(
        self, amount: Fraction | int, begin_ns: int, first: int, rest: float, rounding: float
    ) -> int | None:
        """Return the instant by which the rest at the beginning of a block has drained."""
        left = np.longdouble(rest)  # sums over many blocks are kept wider than what is summed
        count = _WINDOW_BLOCKS
        while True:
            rates = self._rates(first, count)
            drained = (rates.astype(np.longdouble) * self._block_ns / NS_PER_S).cumsum()
            last = int(np.searchsorted(drained, max(left - rounding, _TINY)))  # never a block of rate 0
            if last < count:
                start_ns, next_ns = (first + last) * self._block_ns, (first + last + 1) * self._block_ns
                before = left - drained[last - 1] if last else left
                end_ns = start_ns + drain_ns(max(float(before), 0.0), float(rates[last]))
                if drained[last] > left + rounding:
                    return end_ns
                exactly = amount - self.drained(begin_ns, next_ns)
                if exactly <= 0:
                    return min(end_ns, next_ns)
                left, first = np.longdouble(float(exactly)), first + last + 1
                continue
            left -= drained[-1]
            first += count
            blocks_left = float(left) / max(float(drained[-1]) / count, 1e-300)
            if count == _MOST_BLOCKS and (first + blocks_left) * self._block_ns >= NEVER_NS:
                return None
            most = min(2 * count * _WINDOW_BLOCKS, _MOST_BLOCKS)
            count = int(min(max(blocks_left * 1.1 + 2, _WINDOW_BLOCKS), most))

    def _window(self, first: int) -> list[float]:
        """Return the rates from a block on to the end of its window, computed once for all in it."""
        number, offset = divmod(first, _WINDOW_BLOCKS)
        if number != self._window_number:
            self._window_number = number
            self._window_rates = self._rates(number * _WINDOW_BLOCKS, _WINDOW_BLOCKS).tolist()
        return self._window_rates[offset:] if offset else self._window_rates

    def drained(self, start_ns: int, end_ns: int) -> Fraction:
        """Return the sum of rate times time over the blocks between two instants, exactly."""
        first, after = start_ns // self._block_ns, -(-end_ns // self._block_ns)
        total = Fraction(0)
        for begin in range(first, after, _MOST_BLOCKS):
            rates = self._rates(begin, min(_MOST_BLOCKS, after - begin))
            total += exact_sum(rates) * self._block_ns
            if begin == first:
                total -= Fraction(float(rates[0])) * (start_ns - first * self._block_ns)
        if after > first:
            total -= Fraction(float(rates[-1])) * (after * self._block_ns - end_ns)
        return total / NS_PER_S


def exact_sum(values: Floats) -> Fraction:
    """Return the sum of floats without any rounding.

    Examples
    --------
    >>> exact_sum(np.array([0.1, 1e20, -1e20])) == Fraction(0.1)
    True
    """
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    return sum(
        (
            sum(whole[exponents == one].tolist()) * Fraction(2) ** (one - 53)
            for one in np.unique(exponents).tolist()
        ),
        Fraction(0),
    )


class Job:
    """An amount that drains; ``done`` happens when it is through, to the nanosecond.

    A new rate takes over at the instant it is given: what drained under the old
    one is counted exactly (rational arithmetic under constant rates), so no bit
    is lost or sent twice however often the rate changes.

    Parameters
    ----------
    clock
        Simulated time.
    amount
        What has to drain; a whole number of bits, say.
    name
        Who it is, for the message when it never ends.
    """

    def __init__(self, clock: Clock, amount: int, name: str) -> None:
        self.done = clock.event(name)
        self.amount = amount
        self._clock = clock
        self._left: Fraction | int = amount
        self._rate: Rate | None = None
        self._since_ns = clock.now
        self._version = 0

    def drain(self, rate: Rate) -> None:
        """Drain at ``rate`` from now on; a job that has ended stays ended."""
        if self.done.triggered:  # whoever waits for it may not have been told yet at this instant
            return
        now_ns = self._clock.now
        if self._rate is not None and now_ns > self._since_ns:
            self._left = max(self._left - self._rate.drained(self._since_ns, now_ns), Fraction(0))
        self._rate, self._since_ns = rate, now_ns
        self._version += 1
        end_ns = rate.finish_ns(self._left, now_ns)
        if end_ns is not None:
            version = self._version
            self._clock.after(end_ns - now_ns, lambda: self._finish(version))

    def _finish(self, version: int) -> None:
        """End the job, unless its rate has changed since this timer was set."""
        if version == self._version:
            self.done.succeed()
