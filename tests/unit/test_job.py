"""A job ends when its work adds up, however often its rate changes on the way."""

from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosim.errors import StalledError
from cosim.kernel.clock import Clock
from cosim.kernel.job import BlockRate, ConstantRate, Job
from cosim.units import NS_PER_S

RATES = st.one_of(st.just(0.0), st.floats(1e-3, 1e12), st.integers(1, 10**9).map(float))
AMOUNTS = st.integers(0, 10**10)


def play(amount, changes):
    """Drain an amount; ``changes`` are (instant, rate), the first at 0. Return the end."""
    clock = Clock()
    job = Job(clock, amount, "the bits")
    ended = []
    for instant, rate in changes[1:]:
        clock.after(instant, lambda rate=rate: None if job.done.triggered else job.drain(rate))

    def scheme():
        job.drain(changes[0][1])
        yield job.done
        ended.append(clock.now)

    clock.run(clock.process(scheme(), "the scheme"))
    return ended[0]


def exact_end(amount, changes):
    """Oracle: add up rate times time as fractions, period by period."""
    left = Fraction(amount)
    for (begin, rate), (end, _) in zip(changes, [*changes[1:], (None, None)], strict=True):
        per_ns = Fraction(rate) / NS_PER_S
        if left <= 0:
            return begin
        if per_ns and (end is None or left <= per_ns * (end - begin)):
            return begin + ceil(left / per_ns)
        if end is not None:
            left -= per_ns * (end - begin)
    raise AssertionError("the last rate must not be 0")


@settings(deadline=None, max_examples=80)
@given(
    amount=AMOUNTS,
    periods=st.lists(st.tuples(st.integers(0, 3 * NS_PER_S), RATES), max_size=8),
    last=st.floats(10.0, 1e10),
)
def test_a_job_rerated_at_any_instants_ends_when_the_work_adds_up(amount, periods, last):
    changes, instant = [], 0
    for length, rate in periods:
        changes.append((instant, rate))
        instant += length
    changes.append((instant, last))
    merged = [one for one, later in pairwise(changes) if one[0] < later[0]]
    merged.append(changes[-1])
    end = play(amount, [(at, ConstantRate(rate)) for at, rate in changes])
    assert end == exact_end(amount, merged)


@settings(deadline=None)
@given(amount=st.integers(1, 10**9), rate=st.floats(1.0, 1e9), instants=st.lists(st.integers(1, 10**10)))
def test_being_given_the_same_rate_again_changes_nothing(amount, rate, instants):
    changes = [(0, ConstantRate(rate)), *((at, ConstantRate(rate)) for at in sorted(instants))]
    assert play(amount, changes) == play(amount, changes[:1])


@settings(deadline=None)
@given(amount=st.integers(1, 10**9), rate=st.floats(1.0, 1e9), pause=st.integers(0, 10**12))
def test_a_pause_at_rate_zero_is_as_long_as_it_lasts(amount, rate, pause):
    straight = play(amount, [(0, ConstantRate(rate))])
    stop = straight // 2
    paused = [(0, ConstantRate(rate)), (stop, ConstantRate(0.0)), (stop + pause, ConstantRate(rate))]
    assert play(amount, paused) == straight + pause


@settings(deadline=None)
@given(amount=AMOUNTS, rate=st.floats(10.0, 1e12), start=st.integers(0, 10**15))
def test_a_constant_rate_ends_in_the_first_nanosecond_that_has_drained_it_all(amount, rate, start):
    constant = ConstantRate(rate)
    end = constant.finish_ns(amount, start)
    assert constant.drained(start, end) >= amount
    assert end == start or constant.drained(start, end - 1) < amount


def test_nothing_to_drain_ends_at_once_even_at_rate_zero():
    assert play(0, [(0, ConstantRate(0.0))]) == 0


def test_a_job_given_a_rate_after_its_end_stays_ended(clock):
    job = Job(clock, 10, "the bits")

    def scheme():
        job.drain(ConstantRate(1e9))
        yield job.done
        job.drain(ConstantRate(1e9))
        yield clock.timeout(100)

    clock.run(clock.process(scheme(), "the scheme"))
    assert clock.now == 110


@pytest.mark.parametrize("per_s", [0.0, 1e-12])
def test_a_job_that_never_ends_is_named(clock, per_s):
    def scheme():
        job = Job(clock, 7, "7 bits of client-2")
        job.drain(ConstantRate(per_s))
        yield job.done

    with pytest.raises(StalledError, match="the scheme waits for 7 bits of client-2"):
        clock.run(clock.process(scheme(), "the scheme"))


# Blocks


def repeated(rates):
    """Return blocks that repeat for ever."""
    return lambda first, count: np.array([rates[b % len(rates)] for b in range(first, first + count)])


def brute_end(amount, start, block_ns, rates):
    """Oracle: one block after the other, in fractions."""
    left, now = Fraction(amount), start
    while left > 0:
        block = now // block_ns
        edge = (block + 1) * block_ns
        per_ns = Fraction(rates[block % len(rates)]) / NS_PER_S
        if per_ns * (edge - now) >= left:
            return now + ceil(left / per_ns)
        left -= per_ns * (edge - now)
        now = edge
    return now


BLOCKS = st.lists(st.one_of(st.just(0.0), st.floats(1e5, 1e9)), min_size=1, max_size=12).filter(any)


@settings(deadline=None, max_examples=80)
@example(amount=52943, start=0, block_ns=105886, rates=[0.0, 1e5])  # ends with the 10,000th block
@given(
    amount=st.integers(1, 10**6),
    start=st.integers(0, 10**9),
    block_ns=st.integers(10**5, 10**8),
    rates=BLOCKS,
)
def test_blocks_end_with_the_block_by_block_sum(amount, start, block_ns, rates):
    end = BlockRate(block_ns, repeated(rates)).finish_ns(amount, start)
    assert end == brute_end(amount, start, block_ns, rates)


@settings(deadline=None, max_examples=80)
@given(
    data=st.data(), block_ns=st.sampled_from([2**k * 5**4 for k in range(4, 12)]), start=st.integers(0, 999)
)
def test_a_tie_with_a_whole_nanosecond_is_no_nanosecond_late(data, block_ns, start):
    """Rates are whole numbers of 1/2^30 bit per ns, so that what has drained by each ns is a float."""
    rates = [
        NS_PER_S * one / 2**30 for one in data.draw(st.lists(st.integers(1, 2**20), min_size=1, max_size=300))
    ]
    blocks = BlockRate(block_ns, repeated(rates))
    end = start + data.draw(st.integers(1, block_ns * len(rates)))
    assert blocks.finish_ns(blocks.drained(start, end), start) == end


@settings(deadline=None, max_examples=50)
@given(
    jobs=st.lists(st.tuples(st.integers(1, 10**8), st.integers(0, 10**9)), min_size=2, max_size=6),
    block_ns=st.integers(10**5, 10**8),
    rates=BLOCKS,
)
def test_when_a_job_ends_does_not_hang_on_who_was_asked_before(jobs, block_ns, rates):
    shared = BlockRate(block_ns, repeated(rates))
    for amount, start in jobs:
        alone = BlockRate(block_ns, repeated(rates))
        assert shared.finish_ns(amount, start) == alone.finish_ns(amount, start)


@settings(deadline=None, max_examples=50)
@given(
    amount=st.integers(1, 10**5),
    start=st.integers(0, 10**10),
    block=st.integers(1, 4),
    rates=st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any),
)
def test_blocks_of_whole_numbers_end_with_the_sum_exactly(amount, start, block, rates):
    block_ns = block * NS_PER_S
    start -= start % NS_PER_S
    end = BlockRate(block_ns, repeated([float(rate) for rate in rates])).finish_ns(amount, start)
    assert end == brute_end(amount, start, block_ns, rates)


@settings(deadline=None, max_examples=50)
@given(
    amount=st.integers(1, 10**7),
    start=st.integers(0, 10**12),
    block_ns=st.integers(10**4, 10**9),
    rate=st.floats(1e6, 1e10),
)
def test_equal_blocks_are_a_constant_rate(amount, start, block_ns, rate):
    blocks, constant = BlockRate(block_ns, repeated([rate])), ConstantRate(rate)
    end = constant.finish_ns(amount, start)
    assert blocks.finish_ns(amount, start) == end
    assert float(blocks.drained(start, end)) == pytest.approx(float(constant.drained(start, end)), rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    amount=st.integers(1, 10**6),
    start=st.integers(0, 10**9),
    block_ns=st.integers(10**5, 10**8),
    rates=BLOCKS,
)
def test_what_has_drained_by_the_end_is_the_amount_within_the_last_nanosecond(amount, start, block_ns, rates):
    blocks = BlockRate(block_ns, repeated(rates))
    end = blocks.finish_ns(amount, start)
    assert blocks.drained(start, end - 1) < amount <= blocks.drained(start, end)


@settings(deadline=None, max_examples=50)
@given(
    instants=st.lists(st.integers(0, 10**9), min_size=3, max_size=3).map(sorted),
    block_ns=st.integers(10**5, 10**8),
    rates=BLOCKS,
)
def test_what_drains_in_two_periods_adds_up(instants, block_ns, rates):
    blocks = BlockRate(block_ns, repeated(rates))
    begin, middle, end = instants
    parts = float(blocks.drained(begin, middle) + blocks.drained(middle, end))
    assert parts == pytest.approx(float(blocks.drained(begin, end)), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=60)
@example(amount=500000, block_ns=100000, rates=[0.0, 999999999.9999999], instants=[])  # a bit is left over
@example(amount=31250, block_ns=100000, rates=[0.0, 62499999.99999988], instants=[150000, 950000])
@given(
    amount=st.integers(1, 10**6),
    block_ns=st.integers(10**5, 10**8),
    rates=BLOCKS,
    instants=st.lists(st.integers(1, 10**10), max_size=6),
)
def test_a_job_rerated_under_fading_loses_no_bit(amount, block_ns, rates, instants):
    blocks = BlockRate(block_ns, repeated(rates))
    end = play(amount, [(0, blocks), *((at, blocks) for at in sorted(instants))])
    assert end == brute_end(amount, 0, block_ns, rates)


@pytest.mark.parametrize(("per_s", "is_tie"), [(1e3, True), (7e3 / 3.0, False)])
def test_a_long_transfer_asks_for_its_blocks_in_few_goes(per_s, is_tie):
    """And once more for all of them where rounding would decide the nanosecond."""
    asked = []

    def rates(first, count):
        asked.append((first, count))
        return np.full(count, per_s)

    end = BlockRate(1_000_000, rates).finish_ns(20_000, 500_000)
    assert end == ConstantRate(per_s).finish_ns(20_000, 500_000)
    if is_tie:
        assert asked.pop()[0] == 0
    assert len(asked) <= 5
    firsts, counts = np.array(asked).T
    assert (firsts[1:] == firsts[:-1] + counts[:-1]).all()


def test_jobs_that_follow_one_another_ask_once_for_each_window():
    asked = []

    def rates(first, count):
        asked.append((first, count))
        return np.full(count, 7e3 / 3.0)

    blocks, now_ns = BlockRate(1_000_000, rates), 0
    for _ in range(30):  # a little more than two blocks each, some across the edge of two windows
        now_ns = blocks.finish_ns(5, now_ns)
    assert 64_000_000 < now_ns < 65_000_000
    assert asked == [(0, 16), (16, 16), (32, 16), (48, 16), (64, 16)]


@pytest.mark.parametrize("per_s", [0.0, 1e-12, 5e-324])
def test_blocks_in_which_next_to_nothing_drains_never_end(per_s):
    assert BlockRate(1_000_000, lambda first, count: np.full(count, per_s)).finish_ns(10**6, 0) is None
