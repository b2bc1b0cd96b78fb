"""What every task policy keeps, on drawn arrivals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.rng import stream
from cosim.schemes.task_policy import Arrival, Offer, TaskPolicy
from cosim.schemes.turns import Cost
from cosim.testing.selection import examples_of

CASES = examples_of(TaskPolicy)
AMOUNTS = st.floats(min_value=1e-3, max_value=1e3)
OFFERS = st.tuples(
    st.booleans(), AMOUNTS, st.integers(0, 50), st.floats(0.0, 1.0), st.builds(Cost, AMOUNTS, AMOUNTS)
)


@st.composite
def arrivals(draw):
    drawn = draw(st.lists(OFFERS, min_size=2, max_size=2).filter(lambda some: any(one[0] for one in some)))
    offers = tuple(Offer(name, *one) for name, one in zip("ab", drawn, strict=True))
    return Arrival(draw(st.integers(0, 7)), draw(AMOUNTS), draw(st.sampled_from([None, 0, 1])), offers)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=30, deadline=None)
@given(arrival=arrivals())
def test_it_takes_an_open_task_or_none_and_the_same_of_the_same(case, arrival):
    policy, chance = make(TaskPolicy, case), stream(1, "policy")
    place = policy.choose(arrival, chance)
    assert place is None or arrival.offers[place].is_open
    assert policy.choose(arrival, stream(1, "policy")) == place


@pytest.mark.parametrize("case", CASES)
def test_it_serves_two_tasks_and_many_clients(case):
    assert make(TaskPolicy, case).why_unfit(["a", "b"], 8) is None
