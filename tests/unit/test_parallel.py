"""Lanes in forked processes: the same values in any number, and nothing lost or left behind."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.graph.executor import Sequential
from cosim.graph.finite import NotFiniteError
from cosim.graph.lanes import lanes_of
from cosim.graph.node import Graph
from cosim.graph.operation import operation
from cosim.graph.parallel import Parallel
from cosim.graph.processes import can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


def step(_, params, *inputs):
    """Give a strided tensor and a number made of all inputs; ``does`` lets other things happen."""
    params["does"]()
    total = params["add"] + sum(float(one) if isinstance(one, float) else one.sum().item() for one in inputs)
    return {
        "state": torch.arange(6.0).reshape(2, 3).T * total,
        "loss": float(total),
        "by": float(os.getpid()),
    }


class Nothing:
    def __call__(self):
        pass

    def __repr__(self):
        return ""


class Raises(Nothing):
    def __call__(self):
        raise ValueError("not today")


class Dies(Nothing):
    """Kill the process the first time, or every time, it is not the one the test is in."""

    def __init__(self, once):
        self.here, self.once = os.getpid(), once

    def __call__(self):
        if os.getpid() != self.here and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Interrupts(Nothing):
    """Do to the process of the test what Ctrl-C does, and go on."""

    def __init__(self):
        self.here = os.getpid()

    def __call__(self):
        os.kill(self.here, signal.SIGINT)
        time.sleep(30.0)


STEP = operation("test_parallel_step", state=("state",), may_overflow=("by",))(step)
FORWARD = operation("test_parallel_forward")(
    lambda _, params, *inputs: {"graph": (lambda: inputs[0].sum().item()), "sent": inputs[0] * 2}
)
BACKWARD = operation("test_parallel_backward", goes_back_through="graph")(
    lambda _, params, graph, gradient: {"state": gradient + graph()}
)


class Context:
    def compute(self, node, inputs):
        return node.operation.body(self, node.params, *inputs)


def executor(num_workers=None, *, goes_on=False):
    local = Sequential(Context, goes_on=goes_on)
    return local if num_workers is None else Parallel(local, num_workers)


def add(graph, *inputs, add=1.0, does=None):
    return graph.add(STEP, [one.ref("state") for one in inputs], add=add, does=does or Nothing())


def rounds(graph, num_clients=3, does=None):
    """Return start, the last steps of a round of clients, and their sum."""
    start = add(graph)
    first = [add(graph, start, add=float(client)) for client in range(num_clients)]
    last = [add(graph, one, does=does if client == 1 else None) for client, one in enumerate(first)]
    return start, last, add(graph, *last)


def values_of(made, graph_of):
    refs = [ref for node in graph_of for ref in (node.ref("state"), node.ref("loss"))]
    return made.materialise(refs[::2], refs)


def same(left, right):
    return all(
        torch.equal(*both) if torch.is_tensor(both[0]) else both[0] == both[1]
        for both in zip(left, right, strict=True)
    )


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_clients_have_lanes_and_what_is_of_all_has_none():
    graph = Graph()
    start, last, total = rounds(graph)
    nodes = sorted({start, *last, total, *(one.inputs[0].node for one in last)}, key=lambda one: one.order)
    assert lanes_of(nodes) == [None, 0, 1, 2, 0, 1, 2, None]


@given(
    parents=st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=14),
    asked=st.sets(st.integers(0, 13), min_size=1, max_size=4),
)
@settings(max_examples=4, deadline=None)
def test_any_graph_has_the_same_values_in_any_number_of_processes(parents, asked):
    found = []
    for num_workers in (None, 1, 3):
        graph, nodes = Graph(), []
        for number, those in enumerate(parents):
            inputs = [nodes[one % number] for one in those] if number else []
            nodes.append(add(graph, *inputs, add=float(number)))
        made = executor(num_workers, goes_on=True)
        wanted = [nodes[one % len(nodes)] for one in sorted(asked)]
        found.append((values_of(made, wanted), list(made.scalars), made.num_computed))
    for values, scalars, num_computed in found[1:]:
        assert same(found[0][0], values)
        assert (found[0][1], found[0][2]) == (scalars, num_computed)


def test_clients_are_computed_elsewhere_and_what_was_kept_is_built_upon():
    graph, made = Graph(), executor(2)
    _, last, total = rounds(graph)
    by = made.materialise([total.ref("state")], [one.ref("by") for one in (*last, total)])
    assert len(set(by[:-1])) == 2
    assert by[-1] == os.getpid() not in by[:-1]
    again = add(graph, total), add(graph, total, add=2.0)
    (value,) = made.materialise((), [add(graph, *again).ref("state")])
    assert value.stride() == (1, 3)


def test_a_graph_stays_where_it_was_made_also_where_the_server_waits_for_all():
    def play(made):
        graph = Graph()
        clients = [add(graph, add=float(one)) for one in range(4)]
        server = add(graph, *clients)
        forward = [
            graph.add(FORWARD, [one.ref("state")], number=number) for number, one in enumerate(clients)
        ]
        joint = graph.add(
            STEP, [one.ref("sent") for one in (*forward,)] + [server.ref("state")], add=0.0, does=Nothing()
        )
        back = [graph.add(BACKWARD, [one.ref("graph"), joint.ref("state")]) for one in forward]
        return made.materialise((), [one.ref("state") for one in back])

    assert same(play(executor()), play(executor(3)))


@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_is_killed_costs_its_round_and_nothing_else(tmp_path, caplog, always):
    kills = Dies(None if always else tmp_path / "died")
    graph, plain = Graph(), Graph()
    wanted, expected = rounds(graph, does=kills)[1:], rounds(plain)[1:]
    made, other = executor(3), executor()
    assert same(values_of(made, (*wanted[0], wanted[1])), values_of(other, (*expected[0], expected[1])))
    assert made.num_computed == other.num_computed
    assert [one.split(";")[0] for one in caplog.messages] == [
        "a worker of the training was killed by signal 9, as one is when memory runs out"
    ] * (3 if always else 1)  # the third time nobody else is asked


def test_of_several_faults_the_first_is_raised_as_it_would_be_here():
    for num_workers in (None, 2):
        with pytest.raises(ValueError, match="not today"):
            values_of(executor(num_workers), rounds(Graph(), does=Raises())[1])


def test_what_is_not_finite_is_found_in_the_same_place():
    found = []
    for num_workers in (None, 2, 3):
        graph = Graph()
        good = [add(graph, add=1.0 + one) for one in range(3)]
        bad = [add(graph, one, add=float("inf") if number else 0.0) for number, one in enumerate(good)]
        with pytest.raises(NotFiniteError) as fault:
            executor(num_workers).materialise((), [one.ref("loss") for one in (*bad, *good)])
        found.append(([one.node.order for one in fault.value.refs], fault.value.known))
    assert found[0] == found[1] == found[2]


def test_ctrl_c_ends_the_workers_too():
    before = children()
    made = executor(2)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            values_of(made, rounds(Graph(), does=Interrupts())[1])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert children() == before


def test_workers_end_with_their_executor():
    before = children()
    made = executor(2)
    values_of(made, rounds(Graph())[1])
    assert len(children()) == len(before) + 2
    del made
    assert children() == before


def test_workers_end_with_a_process_that_is_killed():
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        made = executor(2)
        values_of(made, rounds(Graph())[1])
        os.write(theirs, " ".join(children()).encode())
        os.close(theirs)
        time.sleep(60.0)
        os._exit(0)
    os.close(theirs)
    orphans = os.read(ours, 100).decode().split()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until = time.monotonic() + 30.0
    while any(
        Path(f"/proc/{one}/cmdline").exists() and Path(f"/proc/{one}/cmdline").read_text() for one in orphans
    ):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(orphans) == 2
    os.close(ours)
