"""The ends of many transfers at once, each at the nanosecond at which the event kernel ends it."""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from cosim.kernel.job import BlockRate
from cosim.units import NS_PER_S, Floats, Ints, drain_ns

NEVER = 1 << 62
"""The end, ns, of what never ends, or in more than 146 years; what takes long still adds up behind it."""

ROUNDING = 2.0**-52  # of an amount, times blocks: more than a sum of floats over them loses
SPARE = 16
LARGEST = 2.0**51  # ns of a transfer; beyond it floats do not tell nanoseconds apart

Rates = Callable[[Ints, Ints], Floats]
"""``rates(which, blocks)``: rates per second of these elements in a block of each, shape (num,)."""


def finish_constant(bits: Ints, rates: Floats, start_ns: Ints) -> Ints:
    """Return the first whole nanoseconds by which bits have drained at constant rates, ns.

    Arrays are of one shape, (num,). In floats where their rounding leaves no doubt, else
    exactly, as :func:`cosim.units.drain_ns`.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        time_ns = bits / rates * NS_PER_S
        doubt_ns = time_ns * (4.0 * ROUNDING)
        low, high = np.ceil(time_ns - doubt_ns), np.ceil(time_ns + doubt_ns)
    is_sure = (low == high) & (high < LARGEST)
    ends = start_ns + np.where(is_sure, high, 0.0).astype(np.int64)
    for one in np.flatnonzero(~is_sure & (bits > 0) & (start_ns < NEVER)).tolist():
        rate = float(rates[one])
        end_ns = NEVER if rate == 0.0 else int(start_ns[one]) + drain_ns(int(bits[one]), rate)
        ends[one] = min(end_ns, NEVER)
    return np.where(bits > 0, ends, start_ns)


def finish_blocks(bits: Ints, start_ns: Ints, block_ns: int, rates: Rates, most_blocks: int) -> Ints:
    """Return the first whole nanoseconds by which bits have drained at rates that hold for a block each, ns.

    Block by block for all at once. An element is settled in floats where the bound on their
    rounding settles both the nanosecond and the block, else by the event kernel's exact sum.

    Parameters
    ----------
    bits, start_ns
        Shape (num,).
    block_ns
        Block ``b`` lasts from ``b * block_ns`` on.
    rates
        Rates of elements in blocks.
    most_blocks
        What has not ended in so many blocks never ends.
    """
    ends = start_ns.copy()
    which = np.flatnonzero((bits > 0) & (start_ns < NEVER))
    left, now, block = bits[which].astype(np.float64), start_ns[which], start_ns[which] // block_ns
    unit = left * ROUNDING
    for number in range(most_blocks):
        if not len(which):
            break
        rate, next_ns = rates(which, block), (block + 1) * block_ns
        drains = rate * (next_ns - now) / NS_PER_S
        rounding = unit * (number + 1 + SPARE)
        may_end = (drains >= left - rounding) & (rate > 0.0)
        goes_on = ~may_end
        if may_end.any():
            some = np.flatnonzero(may_end)
            end_ns, is_sure = _ends(left[some], rate[some], rounding[some], now[some], next_ns[some])
            ends[which[some]] = end_ns
            goes_on[some[is_sure & (end_ns > next_ns[some])]] = True
            for one in which[some[~is_sure]].tolist():
                ends[one] = _exactly(one, int(bits[one]), int(start_ns[one]), block_ns, rates)
        on = np.flatnonzero(goes_on)
        which, left, unit = which[on], (left - drains)[on], unit[on]
        now, block = next_ns[on], block[on] + 1
    ends[which] = NEVER  # those that are left
    return ends


def _ends(
    left: Floats, rate: Floats, rounding: Floats, now: Ints, next_ns: Ints
) -> tuple[Ints, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return the ends of what is left, and whether neither nanosecond nor block is in doubt."""
    time_ns = left / rate * NS_PER_S
    doubt_ns = rounding / rate * NS_PER_S + time_ns * ROUNDING
    low, high = np.ceil(time_ns - doubt_ns), np.ceil(np.minimum(time_ns + doubt_ns, LARGEST))
    ends = now + high.astype(np.int64)
    return ends, (low == high) & (ends != next_ns) & (ends != next_ns + 1)


def lasts_ns(bits: int, rate: float) -> int:
    """Return what :func:`finish_constant` does of one transfer from instant 0 on, in plain numbers."""
    if not rate:
        return NEVER if bits else 0
    time_ns = bits / rate * NS_PER_S
    if time_ns < LARGEST:
        doubt_ns = time_ns * (4.0 * ROUNDING)
        end_ns = ceil(time_ns + doubt_ns)
        if end_ns == ceil(time_ns - doubt_ns):
            return end_ns
    return min(drain_ns(bits, rate), NEVER)


def finish_one(
    bits: int,
    start_ns: int,
    block_ns: int,
    known: Sequence[float],
    first: int,
    beyond: Callable[[int], float],
    most_blocks: int,
) -> int | None:
    """Return what :func:`finish_blocks` does of one transfer, in plain numbers; None where it is in doubt.

    Parameters
    ----------
    known
        The rates of the blocks from ``first`` on.
    beyond
        Gives the rate of another block.
    """
    left, now_ns, block = float(bits), start_ns, start_ns // block_ns
    unit = left * ROUNDING
    for number in range(most_blocks if bits else 0):
        next_ns, offset = (block + 1) * block_ns, block - first
        rate = known[offset] if 0 <= offset < len(known) else beyond(block)
        drains, rounding = rate * (next_ns - now_ns) / NS_PER_S, unit * (number + 1 + SPARE)
        if drains >= left - rounding and rate > 0.0:
            time_ns = left / rate * NS_PER_S
            doubt_ns = rounding / rate * NS_PER_S + time_ns * ROUNDING
            end_ns = now_ns + ceil(time_ns - doubt_ns)
            is_sure = end_ns == now_ns + ceil(time_ns + doubt_ns)
            if not is_sure or end_ns in (next_ns, next_ns + 1):
                return None
            if end_ns <= next_ns:
                return end_ns
        left, now_ns, block = left - drains, next_ns, block + 1
    return None if bits else start_ns


def _exactly(which: int, bits: int, start_ns: int, block_ns: int, rates: Rates) -> int:
    """Return an end as the event kernel finds it."""

    def of_blocks(first: int, count: int) -> Floats:
        return rates(np.full(count, which), np.arange(first, first + count))

    end_ns = BlockRate(block_ns, of_blocks).finish_ns(bits, start_ns)
    return NEVER if end_ns is None else min(end_ns, NEVER)
