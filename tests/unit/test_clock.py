"""The clock: whole nanoseconds, ties in order, an end with the scheme, and a clear word when it stalls."""

import gc
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import StalledError
from cosim.kernel.clock import Clock


def test_two_thousand_tenths_of_a_second_are_two_hundred_seconds(clock):
    def steps():
        for _ in range(2000):
            yield clock.timeout(100_000_000)

    clock.run(clock.process(steps(), "steps"))
    assert clock.now == 200_000_000_000
    assert type(clock.now) is int


@settings(deadline=None)
@given(delays=st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_timers_of_one_instant_go_off_in_the_order_they_were_set(delays):
    clock, served = Clock(), []
    for number, delay in enumerate(delays):
        clock.after(delay, lambda number=number: served.append(number))

    def longest():
        yield clock.timeout(4)

    clock.run(clock.process(longest(), "longest"))
    assert served == sorted(range(len(delays)), key=lambda number: (delays[number], number))


def test_processes_begin_in_the_order_they_were_started(clock):
    begun = []

    def one(number):
        begun.append(number)
        yield clock.timeout(1)

    clock.run(together(clock, [clock.process(one(number), f"{number}") for number in range(5)]))
    assert begun == [0, 1, 2, 3, 4]


def test_all_of_waits_for_the_last_and_any_of_for_the_first(clock):
    seen = []

    def waits():
        yield clock.any_of([clock.timeout(3), clock.timeout(7)])
        seen.append(clock.now)
        yield clock.all_of([clock.timeout(2), clock.timeout(5)])
        seen.append(clock.now)

    clock.run(clock.process(waits(), "waits"))
    assert seen == [3, 8]


@settings(deadline=None)
@given(delays=st.lists(st.integers(0, 4), max_size=6), begins=st.integers(0, 4))
def test_all_of_happens_when_that_of_simpy_does_and_next_to_it(delays, begins):
    """Of timers some of which are over, and where there are none at all."""
    clock, happened = Clock(), []
    timers = [clock.timeout(delay) for delay in delays]

    def waits(event, name):
        yield event
        happened.append((clock.now, name))

    def begin():
        yield clock.timeout(begins)
        several = timers[0].env.all_of(timers) if timers else None
        ours = clock.process(waits(clock.all_of(timers), "ours"), "ours")
        yield ours if several is None else clock.all_of([ours, clock.process(waits(several, "its"), "its")])

    clock.run(clock.process(begin(), "begin"))
    assert {at for at, _ in happened} == {max([begins, *delays])}
    assert [name for _, name in happened] == (["its", "ours"] if timers else ["ours"])


def test_who_waits_for_several_is_named_by_what_is_open(clock):
    def waits():
        over = clock.timeout(1)
        yield clock.all_of([over, clock.event("a reply"), clock.event("an answer")])

    with pytest.raises(StalledError, match=r"waits waits for a reply and an answer\.$"):
        clock.run(clock.process(waits(), "waits"))


def test_a_failed_event_that_nobody_waits_for_ends_the_run_as_it_was_raised(clock):
    fault = json.JSONDecodeError("expected a value", "{", 1)  # cannot be rebuilt from its args

    def fails():
        clock.event("a reply").fail(fault)
        yield clock.timeout(1)

    with pytest.raises(json.JSONDecodeError) as raised:
        clock.run(clock.process(fails(), "fails"))
    assert raised.value is fault


def test_a_run_ends_with_its_scheme_and_leaves_later_timers_alone(clock):
    late = []
    clock.after(1000, lambda: late.append("rung"))

    def scheme():
        yield clock.timeout(10)

    clock.run(clock.process(scheme(), "the scheme"))
    assert clock.now == 10
    assert late == []


def test_a_run_that_stalls_names_who_waits_for_what(clock):
    def sender(client):
        yield clock.timeout(500_000_000)
        yield clock.event(f"the bits of client-{client}")

    def scheme():
        yield clock.all_of([clock.process(sender(client), f"sender {client}") for client in range(2)])

    with pytest.raises(StalledError) as told:
        clock.run(clock.process(scheme(), "the scheme"))
    assert str(told.value) == (
        "nothing can happen any more at 0.5 s: the scheme waits for sender 0 and sender 1; "
        "sender 0 waits for the bits of client-0; sender 1 waits for the bits of client-1."
    )


def test_who_has_what_it_waits_for_is_not_named_in_a_stall(clock):
    def done():
        yield clock.timeout(1)

    def never():
        yield clock.event("a reply")

    with pytest.raises(StalledError) as told:
        clock.run(together(clock, [clock.process(done(), "done"), clock.process(never(), "the asker")]))
    assert str(told.value) == (
        "nothing can happen any more at 1e-09 s: the asker waits for a reply; the scheme waits for the asker."
    )


def test_an_event_that_happened_is_no_longer_waited_for(clock):
    event = clock.event("a reply")
    clock.after(3, event.succeed)

    def waits():
        yield event
        yield clock.event("another reply")

    with pytest.raises(StalledError, match=r"waits for another reply\.$"):
        clock.run(clock.process(waits(), "waits"))


def failing_deep(clock, fault):
    def inner():
        yield clock.timeout(1)
        raise fault

    def outer():
        yield clock.all_of([clock.process(inner(), "inner")])

    return clock.process(outer(), "outer")


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("a number is wrong"),
        RuntimeError("torch gave up"),
        json.JSONDecodeError("expected a value", "{", 1),  # cannot be rebuilt from its args
        KeyboardInterrupt(),
        StalledError("nobody sends."),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_inside_a_process_comes_out_as_it_was_raised(clock, fault):
    with pytest.raises(type(fault)) as told:
        clock.run(failing_deep(clock, fault))
    assert told.value is fault


def test_a_fault_in_a_process_nobody_waits_for_comes_out_as_well(clock):
    def side():
        yield clock.timeout(1)
        raise RuntimeError("broken on the side")

    def scheme():
        yield clock.timeout(5)

    clock.process(side(), "side")
    with pytest.raises(RuntimeError, match=r"^broken on the side$"):
        clock.run(clock.process(scheme(), "the scheme"))


def test_a_fault_in_a_timer_is_not_taken_for_a_stall(clock):
    def breaks():
        raise RuntimeError("broken timer")

    clock.after(1, breaks)

    def waits():
        yield clock.event("a reply")

    with pytest.raises(RuntimeError, match=r"^broken timer$"):
        clock.run(clock.process(waits(), "waits"))


def test_a_process_that_has_ended_is_run_at_once(clock):
    def nap():
        yield clock.timeout(2)

    process = clock.process(nap(), "nap")
    clock.run(process)
    clock.run(process)
    assert clock.now == 2


def test_garbage_is_looked_for_less_often_while_time_passes(clock):
    before, within = gc.get_threshold(), []

    def look():
        within.append(gc.get_threshold())
        yield clock.timeout(1)
        raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        clock.run(clock.process(look(), "look"))
    assert within[0][0] > before[0] or before[0] >= 50_000
    assert gc.get_threshold() == before


def together(clock, processes):
    def scheme():
        yield clock.all_of(processes)

    return clock.process(scheme(), "the scheme")
