"""The executor: every work once, values dropped when nobody will read them again, kept ones kept."""

import gc
from weakref import WeakSet

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.graph.executor import Sequential, TimingOnly
from cosim.graph.finite import NotFiniteError, is_finite
from cosim.graph.node import Graph
from cosim.graph.operation import operation


class Number:
    """A value that can be watched: how many are alive."""

    def __init__(self, value):
        self.value = value


def add_up(sums, params, *inputs):
    """Give the sum of the inputs plus a parameter, under two names."""
    value = params["add"] + sum(one.value for one in inputs)
    return {"adapter": Number(value), "unread": Number(-value), "loss": float(value)}


START, UPDATE, SUM = (operation(f"test_{name}")(add_up) for name in ("start", "update", "sum"))

GRADIENT = operation("test_gradient", passing=["gradient"])(
    lambda _, params: {"gradient": torch.tensor([params["value"]])}
)
CLIPPED = operation("test_clipped", state=["state"])(
    lambda _, params, gradient: {"state": gradient.clamp(max=params["most"])}
)


class Sums:
    """The context: notes what is computed, and how many values are alive."""

    def __init__(self):
        self.alive = WeakSet()
        self.computed = []
        self.most_alive = 0

    def compute(self, node, inputs):
        self.computed.append(node.key)
        fields = node.operation.body(self, node.params, *inputs)
        self.alive.update(one for one in fields.values() if isinstance(one, Number))
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
    return Graph()


def chain(works, length):
    out = works.add(START, add=1).ref("adapter")
    for number in range(length):
        out = works.add(UPDATE, [out], add=number).ref("adapter")
    return out


def test_a_chain_is_computed_once_each_in_order(works, sums, executor):
    (last,) = executor.materialise((), [chain(works, 4)])
    assert last.value == 1 + 0 + 1 + 2 + 3
    assert len(sums.computed) == executor.num_computed == 5


def test_values_in_between_are_dropped_as_soon_as_they_are_read(works, sums, executor):
    executor.materialise((), [chain(works, 50)])
    assert sums.most_alive <= 5  # the input, the two fields just computed, the two of the work before


def test_works_nobody_asks_for_are_not_computed(works, sums, executor):
    start = works.add(START, add=1)
    works.add(UPDATE, [start.ref("adapter")], add=1)
    executor.materialise((), [start.ref("adapter")])
    assert sums.computed == [start.key]


def test_a_kept_value_is_held_without_its_past_and_built_upon(works, sums, executor):
    out = chain(works, 3)
    executor.materialise([out], ())
    assert out.node.inputs == ()
    gc.collect()
    assert len(sums.alive) == 1
    computed = len(sums.computed)
    (value,) = executor.materialise((), [works.add(UPDATE, [out], add=10).ref("adapter")])
    assert value.value == 14
    assert len(sums.computed) == computed + 1


def test_a_kept_value_goes_when_nobody_refers_to_it_any_more(works, sums, executor):
    out = chain(works, 3)
    executor.materialise([out], ())
    del out
    gc.collect()
    assert len(sums.alive) == 0


def test_numbers_are_kept_in_any_case_and_other_fields_only_when_named(works, sums, executor):
    out = chain(works, 2)
    executor.materialise([out], ())
    assert executor.materialise((), [out.node.ref("loss")]) == [2.0]
    with pytest.raises(LookupError, match="'unread' of <operation 'test_update'"):
        executor.materialise((), [out.node.ref("unread")])


def test_timing_forgets_the_past_in_place_too(works):
    out = chain(works, 2)
    key = out.node.key
    assert TimingOnly().materialise([out], ()) == []
    assert (out.node.key, out.node.inputs) == (key, ())


def test_keeping_one_field_twice_keeps_one_value(works, sums, executor):
    out = chain(works, 2)
    (read,) = executor.materialise([out, out], [out])
    assert read.value == 2
    del read
    gc.collect()
    assert len(sums.alive) == 1


def test_what_is_kept_already_can_be_kept_again_and_read(works, sums, executor):
    out = chain(works, 2)
    executor.materialise([out], ())
    (value,) = executor.materialise([out], [out])
    assert value.value == 2
    assert len(sums.computed) == 3
    (same,) = executor.materialise((), [out])
    assert same is value


def test_a_work_may_read_one_output_twice(works, executor):
    out = chain(works, 1)
    (value,) = executor.materialise((), [works.add(SUM, [out, out], add=0).ref("adapter")])
    assert value.value == 2


def test_many_clients_side_by_side_have_one_value_under_way_each_time(works, sums, executor):
    """Works are computed in the order they were described: nothing piles up but what will be read."""
    shared = works.add(START, add=1).ref("adapter")
    ends = []
    for client in range(100):
        out = shared
        for number in range(5):
            out = works.add(UPDATE, [out], add=1000 * client + number).ref("adapter")
        ends.append(out)
    executor.materialise((), [works.add(SUM, ends, add=0).ref("adapter")])
    assert sums.most_alive <= 100 + 6


def test_a_work_described_twice_is_computed_once(works, sums, executor):
    ends = [chain(works, 3), chain(works, 3)]
    both = works.add(SUM, ends, add=0).ref("adapter")
    assert ends[0] != ends[1]
    values = executor.materialise((), [both, *ends])
    assert [one.value for one in values] == [8, 4, 4]
    assert len(sums.computed) == len(set(sums.computed)) == 5


def test_a_node_whose_value_is_kept_is_not_computed_again_when_added_again(works, sums, executor):
    first, again = chain(works, 3), chain(works, 3)
    executor.materialise([first], ())
    computed = len(sums.computed)
    (value,) = executor.materialise([again], [chain(works, 3)])
    assert value.value == 4
    del first, value
    gc.collect()
    assert len(sums.alive) == 1  # held for the second node, too
    assert executor.materialise((), [again])[0].value == 4
    assert len(sums.computed) == computed
    del again
    gc.collect()
    assert len(sums.alive) == 0
    executor.materialise((), [chain(works, 3)])
    assert len(sums.computed) == 2 * computed


def test_a_value_read_again_later_lives_until_then_and_no_longer(works, sums, executor):
    """The first and the last work of a chain read the same number, described twice."""

    def side():
        return works.add(START, add=7).ref("adapter")

    out = works.add(UPDATE, [side()], add=0).ref("adapter")
    for number in range(20):
        out = works.add(UPDATE, [out], add=number).ref("adapter")
    end = works.add(UPDATE, [out, side()], add=0).ref("adapter")
    assert executor.materialise((), [end])[0].value == 7 + sum(range(20)) + 7
    assert sums.most_alive <= 6
    gc.collect()
    assert len(sums.alive) == 0


def test_rounds_of_works_that_repeat_hold_no_more_with_every_round(works, sums, executor):
    kept = chain(works, 2)
    executor.materialise([kept], ())
    held = []
    for number in range(30):
        kept = works.add(UPDATE, [chain(works, 4), kept], add=number).ref("adapter")
        executor.materialise([kept], ())
        gc.collect()
        held.append((len(sums.alive), len(executor._values)))
    assert set(held) == {(1, 1)}


graphs = st.lists(st.lists(st.integers(0, 10**6), max_size=3), min_size=1, max_size=12)


@settings(deadline=None, max_examples=80)
@given(graph=graphs, picks=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), rest=st.booleans())
def test_any_graph_gives_what_adding_up_by_hand_gives(graph, picks, rest):
    works, executor, values, outs = Graph(), Sequential(Sums), [], []
    for number, parents in enumerate(graph):
        inputs = [parent % number for parent in parents] if number else []
        work = works.add(UPDATE, [outs[one] for one in inputs], add=number % 3)  # some are the same
        outs.append(work.ref("adapter"))
        values.append(number % 3 + sum(values[one] for one in inputs))
    picked = [pick % len(outs) for pick in picks]
    if rest:  # keep some first, then ask for others that build on the forgotten past
        executor.materialise([outs[picked[0]]], ())
    kept = [outs[one] for one in picked]
    for _ in range(2):
        assert [one.value for one in executor.materialise(kept, kept)] == [values[one] for one in picked]


def test_the_model_is_not_loaded_before_there_is_something_to_compute(works):
    made = []

    def make():
        made.append(Sums())
        return made[-1]

    executor = Sequential(make)
    executor.materialise((), ())
    assert made == []
    for _ in range(2):
        executor.materialise((), [chain(works, 1)])
    assert len(made) == 1


def test_many_numbers_are_finite_though_their_sum_is_not():
    many = torch.full((1 << 17,), 3e38)
    assert is_finite({"large": many})
    for bad in (torch.inf, -torch.inf, torch.nan):
        assert not is_finite({"large": many.index_fill(0, torch.tensor([7]), bad), "small": torch.zeros(1)})


def test_a_gradient_is_looked_at_where_a_state_that_took_it_in_is_not_finite(executor, works):
    gradient = works.add(GRADIENT, value=torch.inf).ref("gradient")
    [clipped] = executor.materialise((), [works.add(CLIPPED, [gradient], most=1.0).ref("state")])
    assert clipped == 1.0
    state = works.add(CLIPPED, [gradient], most=torch.inf).ref("state")
    with pytest.raises(NotFiniteError) as found:
        executor.materialise((), [state])
    assert found.value.refs == (gradient, state)
