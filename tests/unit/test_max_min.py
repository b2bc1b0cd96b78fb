"""Matchings whose worst pair is as good as can be, against all matchings there are."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.solvers.max_min import exact_matching, greedy_matching


@st.composite
def cases(draw):
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    count = draw(st.integers(1, min(shape)))
    numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3), st.just(-np.inf))
    scores = np.array(draw(st.lists(numbers, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])))
    return scores.reshape(shape), count


def every_matching(scores, count):
    """Return least score and sum of all matchings of so many pairs that may be."""
    found = []
    for clients in permutations(range(scores.shape[0]), count):
        if list(clients) == sorted(clients):
            for channels in permutations(range(scores.shape[1]), count):
                held = scores[list(clients), list(channels)]
                if np.isfinite(held).all():
                    found.append((held.min(), held.sum()))
    return found


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_exact_one_has_the_best_worst_pair_and_then_the_largest_sum(case):
    scores, count = case
    known = every_matching(scores, count)
    if not known:
        for match in (exact_matching, greedy_matching):
            with pytest.raises(ValueError, match="pairs are wanted"):
                match(scores, count)
        return
    least = max(known)[0]
    sums = [total for worst, total in known if worst == least]
    for match in (exact_matching, greedy_matching):
        channel_of = match(scores, count)
        held = [scores[client, channel] for client, channel in enumerate(channel_of) if channel >= 0]
        used = [channel for channel in channel_of if channel >= 0]
        assert len(held) == count == len(set(used))
        assert (min(held), sum(held)) in [pytest.approx(one) for one in known]
        if match is exact_matching:
            assert (min(held), sum(held)) == pytest.approx((least, max(sums)))


def test_the_greedy_one_betters_the_worst_pair_it_took():
    """In order it takes 9, and 1 is left; an exchange makes it 3 at least."""
    scores = np.array([[9.0, 3.0], [8.0, 1.0]])
    assert greedy_matching(scores, 2).tolist() == [1, 0]
