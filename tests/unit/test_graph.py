"""Critical path, slack, forecasts and attribution, against networkx and against runs played again."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.record.folder import Record
from cosim.report.attribution import attribute, attribution
from cosim.report.forecast import savings
from cosim.report.graph import Causes, critical_path, last_parents, retimed, slack_ns, unexplained_ns
from cosim.report.spans import Spans, length_ns
from cosim.runs import run

for_all = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def spans_of(rows):
    """Return spans of clients that compute: (client, parents, asked, start, end) each, in order of end."""
    clients, parents, asked, starts, ends = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    num_clients = max(clients, default=-1) + 1

    def ints(values):
        return np.array(values, dtype=np.int64)

    return Spans(
        names=("work",),
        actors=tuple(f"client-{number}" for number in range(num_clients)),
        name=np.zeros(len(rows), dtype=np.int64),
        actor=ints(clients),
        peer=np.full(len(rows), -1),
        is_transfer=np.zeros(len(rows), dtype=bool),
        round=np.ones(len(rows), dtype=np.int64),
        local_step=np.zeros(len(rows), dtype=np.int64),
        asked_ns=ints(asked),
        start_ns=ints(starts),
        end_ns=ints(ends),
        bits=np.zeros(len(rows)),
        flop=np.zeros(len(rows)),
        energy_j=np.zeros(len(rows)),
        cause=np.arange(len(rows)),
        causes=ints([one for some in parents for one in some]),
        causes_end=np.cumsum([len(some) for some in parents], dtype=np.int64),
        task=np.zeros(len(rows), dtype=np.int64),
        tasks=("",),
        delivered=np.ones(len(rows), dtype=np.bool_),
        resent_bits=np.zeros(len(rows)),
        is_superposed=np.zeros(len(rows), dtype=np.bool_),
        participants=np.empty(0, dtype=np.int64),
        participants_end=np.zeros(len(rows), dtype=np.int64),
    )


@st.composite
def graphs(draw, most_wait=0):
    """Random causal graphs: ties, empty spans, spans without causes, and waits nobody explains if allowed."""
    rows = []
    for number in range(draw(st.integers(0, 25))):
        parents = draw(st.lists(st.integers(0, number - 1), unique=True, max_size=4)) if number else []
        ready = max((rows[parent][4] for parent in parents), default=0)
        asked = ready + draw(st.integers(0, most_wait))
        start = asked + draw(st.integers(0, most_wait))
        rows.append((draw(st.integers(0, 3)), parents, asked, start, start + draw(st.integers(0, 5))))
    return spans_of(rows)


def as_networkx(spans):
    """Return the graph whose edges weigh what a span adds to the end of a cause."""
    graph = nx.DiGraph()
    graph.add_node(-1)
    begins = [0, *spans.causes_end]
    for number in range(len(spans)):
        parents = spans.causes[begins[number] : begins[number + 1]].tolist()
        ready = max((int(spans.end_ns[parent]) for parent in parents), default=0)
        weight = int(spans.end_ns[number]) - ready
        for parent in parents or [-1]:
            graph.add_edge(parent, number, weight=weight)
    return graph


@for_all
@given(spans=graphs(most_wait=3))
def test_the_critical_path_is_a_longest_path(spans):
    path = critical_path(spans).tolist()
    graph = as_networkx(spans)
    along = sum(graph.edges[edge]["weight"] for edge in zip([-1, *path], path, strict=False))
    longest = nx.dag_longest_path_length(graph)
    assert along == longest == max(spans.end_ns, default=0)


@for_all
@given(spans=graphs(most_wait=3))
def test_slack_is_what_an_end_can_move_without_moving_the_last(spans):
    slack = slack_ns(spans)
    graph = as_networkx(spans)
    for _, _, edge in graph.edges(data=True):
        edge["weight"] *= -1  # the shortest path of the negative is the longest
    last = max(spans.end_ns, default=0)
    for number in range(len(spans)):
        onward = nx.single_source_bellman_ford_path_length(graph, number)
        assert slack[number] == last - spans.end_ns[number] + min(onward.values())
    assert (slack >= 0).all()
    assert (slack[critical_path(spans)] == 0).all()


@for_all
@given(spans=graphs(most_wait=3))
def test_causes_tell_apart_what_is_different_and_join_what_is_the_same(spans):
    causes = Causes.of(spans)
    begins = [0, *spans.causes_end]
    for number in range(len(spans)):
        parents = set(spans.causes[begins[number] : begins[number + 1]].tolist())
        assert parents == (set(causes.sets[causes.which[number]]) if causes.which[number] >= 0 else set())
    assert len({frozenset(one) for one in causes.sets}) == len(causes.sets)


@for_all
@given(spans=graphs(most_wait=3))
def test_nothing_faster_is_the_run_as_it_was(spans):
    again = retimed(spans, np.ones(len(spans)))
    assert (again.start_ns == spans.start_ns).all()
    assert (again.end_ns == spans.end_ns).all()


@for_all
@given(spans=graphs(most_wait=3), beyond=st.integers(0, 3))
def test_attribution_of_any_graph_adds_up_without_gaps(spans, beyond):
    total = int(max(spans.end_ns, default=0)) + beyond
    found = attribution(spans, total)
    reached = 0
    for stretch in found.stretches:
        assert stretch.start_ns == reached < stretch.end_ns
        reached = stretch.end_ns
        assert (stretch.span >= 0) == (
            stretch.cause.activity == "working"
        ) or stretch.cause.activity == "queueing"
        if stretch.span >= 0:
            assert spans.start_ns[stretch.span] <= stretch.start_ns
            assert stretch.end_ns <= spans.end_ns[stretch.span]
        if stretch.cause.activity == "queueing":
            assert spans.asked_ns[stretch.waiter] <= stretch.start_ns
            assert stretch.end_ns <= spans.start_ns[stretch.waiter]
    assert reached == total
    assert sum(share.time_ns for share in found.shares) == total
    assert sum(share.time_ns for shares in found.rounds.values() for share in shares) == total


def test_a_queue_counts_as_queueing_and_its_last_work_as_work():
    # Three works reach client-0 at 0, 2 and 3 and take 5 each; the last one ends at 15.
    spans = spans_of([(0, [], 0, 0, 5), (0, [0], 2, 5, 10), (0, [1], 3, 10, 15)])
    found = attribution(spans, 15)
    times = {share.cause.activity: share.time_ns for share in found.shares}
    assert times == {"queueing": 8, "working": 7}
    assert [share.cause.label for share in found.shares] == ["queueing at client-0", "work of client-0"]


def test_a_wait_no_span_explains_is_waiting():
    found = attribution(spans_of([(0, [], 0, 0, 5), (0, [0], 8, 8, 10)]), 12)
    assert [(one.start_ns, one.end_ns, one.cause.activity) for one in found.stretches] == [
        (0, 5, "working"),
        (5, 8, "waiting"),
        (8, 10, "working"),
        (10, 12, "waiting"),
    ]


@pytest.fixture(scope="module")
def recorded(tiny_scenario, tmp_path_factory):
    """Return what runs a changed tiny scenario without a tensor and reads it back."""

    def record(changes):
        return Record.open(
            run(tiny_scenario(changes), tmp_path_factory.mktemp("run") / "run", timing_only=True)
        )

    return record


@st.composite
def cells(draw):
    """Cells of any kind: queues, shared grants, fading, deadlines."""
    batch = draw(st.sampled_from(["joint", "per_client"]))
    chosen = {
        "seed": draw(st.integers(0, 10**6)),
        "clients.count": draw(st.integers(1, 5)),
        "clients.flop_per_cycle": draw(st.sampled_from([0.01, 1.0])),
        "main_server.flop_per_cycle": draw(st.sampled_from([0.001, 1.0])),
        "main_server.queue_capacity": draw(st.integers(1, 2)),
        "scheme.server_batch": batch,
        "allocator.kind": draw(st.sampled_from(["equal", "time_shared"])),
        "radio.access.kind": draw(st.sampled_from(["orthogonal", "reassign"])),
        "radio.fading.kind": draw(st.sampled_from(["none", "rayleigh_block"])),
        "radio.main_downlink.modelled": draw(st.booleans()),
    }
    if batch == "joint" and draw(st.booleans()):
        chosen["scheme.deadline_s"] = draw(st.floats(0.001, 0.5))
    return chosen


@settings(for_all, max_examples=25)
@given(chosen=cells())
def test_attribution_of_any_run_adds_up_to_its_length_to_the_nanosecond(chosen, recorded):
    record = recorded(chosen)
    spans = Spans.of(record)
    found = attribute(record)
    assert found.length_ns == length_ns(record, spans) == sum(share.time_ns for share in found.shares)
    assert sum(one.end_ns - one.start_ns for one in found.stretches) == found.length_ns
    assert sum(share.time_ns for shares in found.rounds.values() for share in shares) == found.length_ns
    slack = slack_ns(spans)
    assert (slack >= 0).all()
    assert (slack[critical_path(spans)] == 0).all()
    if "scheme.deadline_s" not in chosen:
        assert (unexplained_ns(spans, last_parents(spans)) == 0).all()
        assert "waiting" not in {share.cause.activity for share in found.shares}


FIXED = {  # one rate for the whole run, and nobody in anybody's way
    "clients.count": 4,
    "clients.clock_hz": {"kind": "uniform", "low": 1e6, "high": 3e6},
    "radio.main_downlink.modelled": True,
    "radio.federated_downlink.modelled": True,
    "main_server.clock_hz": 1e8,
}


def by_key(spans):
    """Return rows by what they are: their numbers may be others once something is faster."""
    keys = zip(
        spans.round.tolist(),
        spans.local_step.tolist(),
        spans.name.tolist(),
        spans.client.tolist(),
        strict=True,
    )
    return {key: row for row, key in enumerate(keys)}


def assert_forecast(before, after, chosen):
    forecast = retimed(before, np.where(chosen, 2, 1))
    assert before.names == after.names
    rows = by_key(after)
    for key, row in by_key(before).items():
        assert forecast.start_ns[row] == after.start_ns[rows[key]], key
        assert forecast.end_ns[row] == after.end_ns[rows[key]], key
    assert forecast.length_ns == after.end_ns.max() < before.end_ns.max()


@pytest.mark.parametrize(
    ("changes", "is_faster"),
    [
        (
            {"clients.clock_hz": {"kind": "uniform", "low": 2e6, "high": 6e6}},
            lambda spans: ~spans.is_transfer & (spans.actor < 4),
        ),
        ({"main_server.clock_hz": 2e8}, lambda spans: ~spans.is_transfer & (spans.actor >= 4)),
        (
            # Twice the width at twice the power is the same SNR, so exactly twice the rate.
            {
                "radio.main_downlink.bandwidth_hz": 20e6,
                "radio.main_downlink.tx_power_dbm": 46 + 10 * np.log10(2),
            },
            lambda spans: spans.link == spans.links.index("main_downlink"),
        ),
    ],
    ids=["clients", "main server", "downlink"],
)
def test_a_forecast_is_the_run_played_on_faster_hardware_to_the_nanosecond(changes, is_faster, recorded):
    before, after = Spans.of(recorded(FIXED)), Spans.of(recorded({**FIXED, **changes}))
    assert_forecast(before, after, is_faster(before))


def test_a_forecast_holds_through_a_queue_whose_order_stays(recorded):
    queue = {
        **FIXED,
        "scheme.server_batch": "per_client",
        "main_server.clock_hz": 1e4,
        "clients.clock_hz": 1e9,
    }
    before, after = Spans.of(recorded(queue)), Spans.of(recorded({**queue, "main_server.clock_hz": 2e4}))
    assert (before.asked_ns < before.start_ns).any()
    assert_forecast(before, after, ~before.is_transfer & (before.actor >= 4))


def test_only_what_is_on_the_critical_path_is_said_to_save_time(recorded):
    spans = Spans.of(recorded(FIXED))
    found = savings(spans, most=100)
    assert [one.saved_ns for one in found] == sorted((one.saved_ns for one in found), reverse=True)
    assert all(0 < one.saved_ns == spans.end_ns.max() - one.length_ns for one in found)
    tried = {(one.actor, one.link) for one in found}
    owner = np.where(spans.client >= 0, spans.client, spans.actor)
    for actor in range(len(spans.actors)):
        for link in range(-1, len(spans.links)):
            chosen = (owner == actor) & (spans.link == link)
            saved = spans.end_ns.max() - retimed(spans, np.where(chosen, 2, 1)).length_ns
            key = spans.actors[actor], spans.links[link] if link >= 0 else ""
            assert (key in tried) == (saved > 0)


@pytest.mark.parametrize("speed", [[0.0], [-1.0], [1.0, 1.0]])
def test_a_speed_must_be_positive_and_one_for_every_span(speed):
    with pytest.raises(ValueError, match="one positive speed for every span"):
        retimed(spans_of([(0, [], 0, 0, 5)]), np.array(speed))
