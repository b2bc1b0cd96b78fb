"""A job: an amount of work that drains at a rate which may change while it drains."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Protocol

import numpy as np
from simpy.events import Event

from cosim.kernel.clock import Clock
from cosim.units import NS_PER_S, Floats, drain_ns

_WINDOW_BLOCKS = 16
_ROUNDING = 2.0**-52  # of an amount, times blocks: more than a sum of floats over them loses
_TINY = float(np.finfo(float).tiny)
_SPARE = 16  # blocks' worth of rounding in what is worked out besides
_MOST_BLOCKS = 1 << 16  # at one time, or the gains of wide grants would fill the memory
NEVER_NS = 1 << 63
"""What would end later, in 292 years, never ends: instants are recorded as 64-bit integers."""


class Rate(Protocol):
    """How fast work drains at every instant from now on."""

    def finish_ns(self, amount: Fraction | int, start_ns: int, until_ns: int = NEVER_NS) -> int | None:
        """Return the first instant by which ``amount`` has drained from ``start_ns`` on; None if never.

        What would end after ``until_ns`` need not be worked out, and may be None.
        """

    def drained(self, start_ns: int, end_ns: int) -> Fraction:
        """Return what drains between two instants."""


class ConstantRate:
    """One rate for ever; all arithmetic is exact."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s

    def finish_ns(self, amount: Fraction | int, start_ns: int, until_ns: int = NEVER_NS) -> int | None:
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

    A job ends at the first whole nanosecond by which the exact sum of rate times
    time reaches its amount. That is found in floats, block by block in the window it begins in and
    the next one, whose rates are kept for the next job, and in vectorised steps beyond them; and
    in fractions where rounding leaves a doubt.

    Parameters
    ----------
    block_ns
        Length of a block; block ``b`` lasts from ``b * block_ns`` on.
    rates
        ``rates(first, count)`` returns the rates per second of blocks ``first``
        to ``first + count - 1``, shape (count,).
    window_blocks
        How many are looked at together; a job should usually end in the window it began in, or the next.
    """

    def __init__(
        self, block_ns: int, rates: Callable[[int, int], Floats], window_blocks: int = _WINDOW_BLOCKS
    ) -> None:
        self._block_ns = block_ns
        self._rates = rates
        self._window_blocks = window_blocks
        self._window_number, self._window_rates = -1, list[float]()

    def finish_ns(self, amount: Fraction | int, start_ns: int, until_ns: int = NEVER_NS) -> int | None:
        """Return the first whole nanosecond by which ``amount`` has drained.

        None if it would take for ever at the mean rate of many thousand blocks.
        """
        if not amount:
            return start_ns
        begin_ns, first = start_ns, start_ns // self._block_ns
        left = float(amount)
        rounding = left * _ROUNDING * (2 * self._window_blocks + _SPARE)
        for _window in range(2):
            for rate in self._window(first):
                first += 1
                next_ns = first * self._block_ns
                drains = rate * (next_ns - start_ns) / NS_PER_S
                if drains >= left - rounding and rate:
                    end_ns = self._end_ns(amount, begin_ns, start_ns, rate, left, rounding)
                    if end_ns <= next_ns:
                        return end_ns
                left -= drains
                start_ns = next_ns
        return self._finish_beyond(amount, begin_ns, first, left, until_ns)

    def _finish_beyond(
        self, amount: Fraction | int, begin_ns: int, first: int, left: float, until_ns: int
    ) -> int | None:
        """Return the instant by which what is left at the beginning of a block has drained."""
        begin = begin_ns // self._block_ns
        count = 2 * _WINDOW_BLOCKS  # it has been through as many
        while first * self._block_ns < until_ns:
            count = min(count, -(-until_ns // self._block_ns) - first)
            rates = self._rates(first, count)
            drained = (rates * self._block_ns / NS_PER_S).cumsum()
            rounding = float(amount) * _ROUNDING * (first + count - begin + _SPARE)
            last = int(np.searchsorted(drained, max(left - rounding, _TINY)))  # never a block of rate 0
            if last < count:  # it ends in this block, or barely not
                start_ns, rate = (first + last) * self._block_ns, float(rates[last])
                before = left - float(drained[last - 1]) if last else left
                end_ns = self._end_ns(amount, begin_ns, start_ns, rate, before, rounding)
                if end_ns <= start_ns + self._block_ns:
                    return end_ns
                left, first = left - float(drained[last]), first + last + 1
                continue
            left -= float(drained[-1])
            first += count
            blocks_left = left / max(float(drained[-1]) / count, 1e-300)
            if count == _MOST_BLOCKS and (first + blocks_left) * self._block_ns >= NEVER_NS:
                return None
            most = min(2 * count * _WINDOW_BLOCKS, _MOST_BLOCKS)
            count = int(min(max(blocks_left * 1.1 + 2, _WINDOW_BLOCKS), most))
        return None

    def _end_ns(
        self, amount: Fraction | int, begin_ns: int, start_ns: int, rate: float, left: float, rounding: float
    ) -> int:
        """Return the instant by which what is left, give or take a rounding, has drained at a rate.

        Exact where it matters: where the rounding decides the nanosecond, or the block.
        """
        time_ns = left / rate * NS_PER_S
        doubt_ns = rounding / rate * NS_PER_S + time_ns * _ROUNDING
        end_ns = start_ns + ceil(time_ns + doubt_ns)
        block_ns = (start_ns // self._block_ns + 1) * self._block_ns
        if end_ns == start_ns + ceil(time_ns - doubt_ns) and end_ns != block_ns and end_ns != block_ns + 1:
            return end_ns
        return start_ns + drain_ns(amount - self.drained(begin_ns, start_ns), rate)

    def _window(self, first: int) -> list[float]:
        """Return the rates from a block on to the end of its window, computed once for all in it."""
        number, offset = divmod(first, self._window_blocks)
        if number != self._window_number:
            self._window_number = number
            self._window_rates = self._rates(number * self._window_blocks, self._window_blocks).tolist()
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
        self.name, self.amount = name, amount
        self._clock = clock
        self._left: Fraction | int = amount
        self._rate: Rate | None = None
        self._since_ns = clock.now
        self._version = 0

    def drain(self, rate: Rate, until_ns: int = NEVER_NS) -> None:
        """Drain at ``rate`` from now on, at most until an instant; a job that has ended stays ended."""
        if self.done.triggered:  # those who wait for it may not have heard of it yet at this instant
            return
        now_ns, self._rate = self._count(), rate
        self._version += 1
        end_ns = rate.finish_ns(self._left, now_ns, until_ns)
        if end_ns is not None:
            self._clock.timeout(end_ns - now_ns, self._version).callbacks.append(self._finish)

    @property
    def is_through(self) -> bool:
        """Whether all of it has drained by now; ``done`` happens at this instant then, if it has not yet."""
        self._count()
        return not self._left

    def restart(self) -> Fraction:
        """Begin again with the whole amount, and return what had drained."""
        self._count()
        lost, self._left = Fraction(self.amount) - self._left, self.amount
        return lost

    def give_up(self) -> Fraction:
        """Let it be done now as it is, and return what has drained."""
        self._count()
        self._version += 1
        self.done.succeed()
        return Fraction(self.amount) - self._left

    def _count(self) -> int:
        """Count what has drained since it was counted last, and return the instant, ns."""
        now_ns = self._clock.now
        if self._rate is not None and now_ns > self._since_ns:
            self._left = max(self._left - self._rate.drained(self._since_ns, now_ns), Fraction(0))
        self._since_ns = now_ns
        return now_ns

    def _finish(self, timer: Event) -> None:
        """End the job, unless its rate has changed since this timer was set, whose value is the version."""
        if timer.value == self._version:
            self.done.succeed()
