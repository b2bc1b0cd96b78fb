"""The queue: first come, first served, and never more than its capacity at one time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import StalledError
from cosim.kernel.clock import Clock
from cosim.kernel.queue import Queue

ARRIVALS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=15)


def serve(capacity, arrivals, order=None):
    """Let jobs of (arrival, length) through a queue; return (asked, start, end, made_room) of each.

    With an order of events the queue is shared, and each is a client's.
    """
    clock, served = Clock(), {}
    queue = Queue(clock, capacity, "the server", is_shared=order is not None)

    def job(number, arrival, length):
        yield clock.timeout(arrival)
        turn = queue.enter(number)
        made_room = None if turn is None else (yield turn)
        start = clock.now
        yield clock.timeout(length)
        served[number] = (arrival, start, clock.now, made_room)
        queue.leave(number)

    def scheme():
        numbers = range(len(arrivals)) if order is None else order
        yield clock.all_of([clock.process(job(n, *arrivals[n]), f"job {n}") for n in numbers])

    clock.run(clock.process(scheme(), "the scheme"))
    return [served[number] for number in range(len(arrivals))]


@settings(deadline=None)
@given(capacity=st.integers(1, 4), arrivals=ARRIVALS)
def test_a_queue_never_serves_more_than_its_capacity(capacity, arrivals):
    served = serve(capacity, arrivals)
    for _, instant, _, _ in served:
        at_once = sum(start <= instant < end for _, start, end, _ in served)
        assert at_once <= capacity


@settings(deadline=None)
@given(capacity=st.integers(1, 4), arrivals=ARRIVALS)
def test_who_asks_first_is_served_first(capacity, arrivals):
    served = serve(capacity, arrivals)
    order = sorted(range(len(arrivals)), key=lambda number: (arrivals[number][0], number))
    starts = [served[number][1] for number in order]
    assert starts == sorted(starts)


@settings(deadline=None)
@given(capacity=st.integers(1, 3), data=st.data())
def test_clients_who_ask_at_one_instant_are_served_in_their_order_whatever_that_of_events(capacity, data):
    arrivals = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=8))
    order = data.draw(st.permutations(range(len(arrivals))))
    served = serve(capacity, arrivals, order)
    assert [one[:3] for one in served] == [one[:3] for one in serve(capacity, arrivals)]
    for asked, start, _, made_room in served:
        assert start == asked if made_room is None else served[made_room][2] == start


@settings(deadline=None)
@given(capacity=st.integers(1, 4), arrivals=ARRIVALS)
def test_nobody_waits_while_a_place_is_free(capacity, arrivals):
    """Oracle: each job in its turn takes the place that is free first."""
    free, expected = [0] * capacity, {}
    for number in sorted(range(len(arrivals)), key=lambda number: (arrivals[number][0], number)):
        arrival, length = arrivals[number]
        start = max(arrival, free[0])
        free = sorted([*free[1:], start + length])
        expected[number] = start
    assert [start for _, start, _, _ in serve(capacity, arrivals)] == [
        expected[number] for number in range(len(arrivals))
    ]


@settings(deadline=None)
@given(capacity=st.integers(1, 4), arrivals=ARRIVALS)
def test_a_wait_is_put_down_to_the_job_whose_end_made_room(capacity, arrivals):
    served = serve(capacity, arrivals)
    for asked, start, _, made_room in served:
        if made_room is None:
            assert start == asked
        else:
            assert served[made_room][2] == start


def test_the_length_of_a_queue_is_how_many_wait(clock):
    queue = Queue(clock, 1, "the server")
    for _ in range(3):
        queue.enter()
    assert len(queue) == 2
    queue.leave(0)
    assert len(queue) == 1


def test_who_waits_for_a_place_that_is_never_given_up_is_named(clock):
    queue = Queue(clock, 1, "main-server")

    def waits():
        yield queue.enter()

    assert queue.enter() is None
    with pytest.raises(StalledError, match=r"the second waits for a place at main-server\.$"):
        clock.run(clock.process(waits(), "the second"))
