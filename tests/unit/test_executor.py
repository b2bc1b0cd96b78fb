"""The executor: every work once, values dropped when nobody will read them again, kept ones kept."""

import gc
from weakref import WeakSet

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.learning.executor import Sequential, TimingOnly
from cosim.learning.trainer import Trainer
from cosim.learning.work import OPERATIONS, Describer


class Number:
    """A value that can be watched: how many are alive."""

    def __init__(self, value):
        self.value = value


class Sums:
    """Computes: each work gives the sum of its inputs plus its setting, under two names."""

    def __init__(self):
        self.alive = WeakSet()
        self.computed = []
        self.most_alive = 0

    def __call__(self, work, inputs):
        self.computed.append(work.key)
        value = work.settings["add"] + sum(one.value for one in inputs)
        fields = {"adapter": Number(value), "unread": Number(-value)}
        self.alive.update(fields.values())
        self.most_alive = max(self.most_alive, len(self.alive))
        return fields


@pytest.fixture(autouse=True)
def _garbage_is_what_a_test_leaves():
    """Let a collection not look through all that the libraries have loaded: each would take half a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def sums():
    return Sums()


@pytest.fixture
def executor(sums):
    return Sequential(lambda: sums)


@pytest.fixture
def works():
    return Describer()


def chain(works, length):
    out = works.describe("start", (), add=1).out("adapter")
    for number in range(length):
        out = works.describe("update", [out], add=number).out("adapter")
    return out


def test_a_chain_is_computed_once_each_in_order(works, sums, executor):
    _, (last,) = executor.settle((), [chain(works, 4)])
    assert last.value == 1 + 0 + 1 + 2 + 3
    assert len(sums.computed) == executor.num_computed == 5


def test_values_in_between_are_dropped_as_soon_as_they_are_read(works, sums, executor):
    executor.settle((), [chain(works, 50)])
    assert sums.most_alive <= 5  # the input, the two fields just computed, the two of the work before


def test_works_nobody_asks_for_are_not_computed(works, sums, executor):
    start = works.describe("start", (), add=1)
    works.describe("update", [start.out("adapter")], add=1)
    executor.settle((), [start.out("adapter")])
    assert sums.computed == [start.key]


def test_a_kept_value_is_held_without_its_past_and_built_upon(works, sums, executor):
    (kept,), _ = executor.settle([chain(works, 3)], ())
    assert kept.work.inputs == ()
    gc.collect()
    assert len(sums.alive) == 1
    computed = len(sums.computed)
    _, (value,) = executor.settle((), [works.describe("update", [kept], add=10).out("adapter")])
    assert value.value == 14
    assert len(sums.computed) == computed + 1


def test_a_kept_value_goes_when_nobody_refers_to_it_any_more(works, sums, executor):
    kept, _ = executor.settle([chain(works, 3)], ())
    del kept
    gc.collect()
    assert len(sums.alive) == 0


def test_a_kept_output_has_the_key_of_the_work_it_came_from(works, executor):
    out = chain(works, 2)
    (kept,), _ = executor.settle([out], ())
    assert kept.work.key == out.work.key
    (timed,), _ = TimingOnly().settle([out], ())
    assert timed.work.key == out.work.key


def test_keeping_one_output_twice_keeps_one_value(works, sums, executor):
    out = chain(works, 2)
    kept, read = executor.settle([out, out], [out])
    assert kept[0] == kept[1]
    assert read[0].value == 2
    del read
    gc.collect()
    assert len(sums.alive) == 1


def test_what_is_kept_already_can_be_kept_again_and_read(works, sums, executor):
    (kept,), _ = executor.settle([chain(works, 2)], ())
    (again,), (value,) = executor.settle([kept], [kept])
    assert value.value == 2
    assert len(sums.computed) == 3
    _, (same,) = executor.settle((), [again])
    assert same is value


def test_a_work_may_read_one_output_twice(works, executor):
    out = chain(works, 1)
    _, (value,) = executor.settle((), [works.describe("aggregate", [out, out], add=0).out("adapter")])
    assert value.value == 2


def test_many_clients_side_by_side_have_one_value_under_way_each_time(works, sums, executor):
    """Works are computed in the order they were described: nothing piles up but what will be read."""
    shared = works.describe("start", (), add=1).out("adapter")
    ends = []
    for client in range(100):
        out = shared
        for number in range(5):
            out = works.describe("update", [out], add=1000 * client + number).out("adapter")
        ends.append(out)
    executor.settle((), [works.describe("aggregate", ends, add=0).out("adapter")])
    assert sums.most_alive <= 100 + 6


def test_a_work_described_twice_is_computed_once(works, sums, executor):
    ends = [chain(works, 3), chain(works, 3)]
    both = works.describe("aggregate", ends, add=0).out("adapter")
    assert ends[0] != ends[1]
    _, values = executor.settle((), [both, *ends])
    assert [one.value for one in values] == [8, 4, 4]
    assert len(sums.computed) == len(set(sums.computed)) == 5


def test_a_work_whose_value_is_kept_is_not_computed_again_when_described_again(works, sums, executor):
    (kept,), _ = executor.settle([chain(works, 3)], ())
    computed = len(sums.computed)
    (again,), (value,) = executor.settle([chain(works, 3)], [chain(works, 3)])
    assert value.value == 4
    assert again.work is kept.work
    assert len(sums.computed) == computed
    del kept, again, value
    gc.collect()
    assert len(sums.alive) == 0
    executor.settle((), [chain(works, 3)])
    assert len(sums.computed) == 2 * computed


def test_a_value_read_again_later_lives_until_then_and_no_longer(works, sums, executor):
    """The first and the last work of a chain read the same number, described twice."""

    def side():
        return works.describe("start", (), add=7).out("adapter")

    out = works.describe("update", [side()], add=0).out("adapter")
    for number in range(20):
        out = works.describe("update", [out], add=number).out("adapter")
    end = works.describe("update", [out, side()], add=0).out("adapter")
    assert executor.settle((), [end])[1][0].value == 7 + sum(range(20)) + 7
    assert sums.most_alive <= 6
    gc.collect()
    assert len(sums.alive) == 0


def test_rounds_of_works_that_repeat_hold_no_more_with_every_round(works, sums, executor):
    kept = executor.settle([chain(works, 2)], ())[0]
    held = []
    for number in range(30):
        again = works.describe("update", [chain(works, 4), kept[0]], add=number).out("adapter")
        kept = executor.settle([again], ())[0]
        del again
        gc.collect()
        held.append((len(sums.alive), len(executor._anchors), len(executor._kept)))
    assert set(held) == {(1, 1, 1)}


graphs = st.lists(st.lists(st.integers(0, 10**6), max_size=3), min_size=1, max_size=12)


@settings(deadline=None, max_examples=80)
@given(graph=graphs, picks=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), rest=st.booleans())
def test_any_graph_gives_what_adding_up_by_hand_gives(graph, picks, rest):
    works, executor, values, outs = Describer(), Sequential(Sums), [], []
    for number, parents in enumerate(graph):
        inputs = [parent % number for parent in parents] if number else []
        work = works.describe("update", [outs[one] for one in inputs], add=number % 3)  # some are the same
        outs.append(work.out("adapter"))
        values.append(number % 3 + sum(values[one] for one in inputs))
    picked = [pick % len(outs) for pick in picks]
    if rest:  # keep some first, then ask for others that build on the forgotten past
        executor.settle([outs[picked[0]]], ())
    kept, read = executor.settle([outs[one] for one in picked], [outs[one] for one in picked])
    assert [one.value for one in read] == [values[one] for one in picked]
    assert [one.value for one in executor.settle((), kept)[1]] == [values[one] for one in picked]


def test_the_model_is_not_loaded_before_there_is_something_to_compute(works):
    made = []

    def make():
        made.append(Sums())
        return made[-1]

    executor = Sequential(make)
    executor.settle((), ())
    assert made == []
    for _ in range(2):
        executor.settle((), [chain(works, 1)])
    assert len(made) == 1


def test_timing_alone_computes_nothing_and_forgets_the_past(works):
    (kept,), read = TimingOnly().settle([chain(works, 3)], ())
    assert kept.work.inputs == ()
    assert read == []


def test_every_operation_is_computed_by_the_module_that_it_is_said_to_be_of(works):
    with pytest.raises(KeyError):
        works.describe("guess", ())
    trainer = Trainer(None, None)
    assert {name: trainer._operation(name).__module__ for name in OPERATIONS} == OPERATIONS
