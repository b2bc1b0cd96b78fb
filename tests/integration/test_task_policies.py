"""Several tasks that take turns on one population, and data that drift meanwhile."""

import re
from itertools import pairwise

import pytest

from cosim.errors import ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.graph.store import Store
from cosim.learning.training import Training
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import resume, run
from cosim.scenario.build import check, prepare_tasks
from cosim.schemes.task_policy import Arrival, Offer
from cosim.schemes.task_policy.value_per_cost import ValuePerCost
from cosim.schemes.turns import Cost

TWO = {
    "scheme": {"kind": "asynchronous", "num_rounds": 4, "local_steps": 2, "mixing": 1.0},
    "data": None,
    "tasks.a.data": {"source": {"kind": "embedded", "num_train": 40, "num_test": 8}, "sequence_length": 48},
    "tasks.b.data": {
        "source": {"kind": "embedded", "domain": "hotel", "num_train": 40, "num_test": 8},
        "sequence_length": 40,
    },
}
FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2}}
UNEVEN = {"clients.clock_hz": {"kind": "uniform", "low": 1e5, "high": 2e6}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def played(tiny_scenario, store, tmp_path_factory):
    def record(changes, **options):
        folder = tmp_path_factory.mktemp("runs") / "run"
        return Record.open(run(tiny_scenario({**TWO, **changes}), folder, **{"store": store, **options}))

    return record


def losses(record, task):
    rows = record.metrics.to_pylist()
    return [row["value"] for row in rows if (row["name"], row["task"]) == ("eval_loss", task)]


def spans(record):
    return sorted(record.spans.to_pylist(), key=lambda one: one["id"])


@pytest.mark.parametrize("kind", ["round_robin", "random", "value_per_cost"])
def test_two_tasks_of_one_client_are_each_sequential_training_bit_for_bit(kind, played):
    one = {"clients.count": 1, "lora.dropout": 0.1}
    central = played({**one, "scheme": {"kind": "centralized", "num_rounds": 4, "local_steps": 2}})
    shared = played({**one, "task_policy": {"kind": kind}})
    for task in "ab":
        assert losses(shared, task) == losses(central, task)
    order = [row["task"] for row in spans(shared) if row["name"] == "aggregate"]
    assert sorted(order) == ["a"] * 4 + ["b"] * 4
    assert order != sorted(order)


def test_a_client_works_on_one_task_at_a_time_and_downloads_what_it_has_not_got(played):
    record = played({**UNEVEN, "task_policy": {"kind": "random"}, "scheme.mixing": 0.6})
    for name in ("client-0", "client-1", "client-2"):
        own = [row for row in spans(record) if name in (row["actor"], row["peer"])]
        own.sort(key=lambda one: (one["start_ns"], one["end_ns"]))
        assert all(after["start_ns"] >= before["end_ns"] for before, after in pairwise(own))
        rounds = [(row["task"], row["round"]) for row in own]
        changes = [one for one, before in zip(rounds, [None, *rounds], strict=False) if one != before]
        assert len(changes) == len(set(changes))  # a turn is over before the next begins
    weights = {
        (row["task"], row["value"]) for row in record.metrics.to_pylist() if row["name"] == "mixing_weight"
    }
    assert len(weights) > 2  # staleness is of each task


@pytest.mark.parametrize(
    ("kind", "order"), [("sequential", "aabb"), ("round_robin", "abab")], ids=["sequential", "interleaved"]
)
def test_federated_rounds_of_tasks_follow_one_another_and_learn_what_they_learn_alone(kind, order, played):
    record, apart = played({**FEDERATED, "task_policy": {"kind": kind}}), played(FEDERATED)
    rows = [row for row in spans(record) if row["name"] == "aggregate"]
    assert "".join(row["task"] for row in rows) == order
    for task in "ab":
        name = f"learning.{task}"
        assert record.manifest["fingerprints"][name] == apart.manifest["fingerprints"][name]
    assert record.manifest["works"]["computed"] == 0 or kind == "sequential"
    ends = {}
    for row in spans(record):
        at = row["task"], row["round"]
        ends[at] = (
            max(ends.get(at, (0, 0))[0], row["end_ns"]),
            min(ends.get(at, (0, 1 << 62))[1], row["asked_ns"]),
        )
    stretches = sorted((begin, end) for end, begin in ends.values())
    assert all(after[0] >= before[1] for before, after in pairwise(stretches))


def test_tasks_that_wait_are_evaluated_too_and_nothing_else_changes(played):
    policy = {"kind": "sequential"}
    plain = played({**FEDERATED, "task_policy": policy})
    every_s = plain.manifest["simulated_s"] / 5
    record = played({**FEDERATED, "task_policy": {**policy, "evaluate_every_s": every_s}})
    assert spans(record) == spans(plain)
    for task in "ab":
        assert losses(record, task)[0] == losses(plain, task)[0]
        assert losses(record, task)[-1] == losses(plain, task)[-1]
        assert len(losses(record, task)) >= 3 + 4


def test_no_turn_begins_when_the_time_is_up_and_what_was_learned_is_kept(played):
    whole = played({**UNEVEN, "task_policy": {"kind": "round_robin"}}, timing_only=True)
    starts_ns = sorted(whole.frame("rounds").start_ns)
    until_s = starts_ns[5] / 1e9
    record = played({**UNEVEN, "task_policy": {"kind": "round_robin", "until_s": until_s}})
    assert sorted(record.frame("rounds").start_ns) == [one for one in starts_ns if one < until_s * 1e9]
    assert (record.path / "adapter" / "a" / "adapter_model.safetensors").is_file()


def test_a_turn_takes_what_was_expected_of_it(tiny_scenario, played):
    still = {"radio.fading": {"kind": "none"}, "clients.count": 1}
    (one, _) = prepare_tasks(tiny_scenario({**TWO, **still}))
    world = one.world(lambda rank: TimingOnly())
    turns = one.scenario.scheme.turns(world)
    cost = turns.cost(0)

    def play():
        yield from turns.turn(0, ())
        began = world.clock.now
        yield from turns.turn(0, ())
        took.append((world.clock.now - began) / 1e9)

    took = []
    world.play(play())
    assert cost.latency_s == pytest.approx(took[0], rel=1e-4)
    rows = world.log.spans
    rows.settle()
    energy = [
        e
        for e, number, actor in zip(rows.energy_j, rows.round, rows.actor, strict=True)
        if number == 2 and actor == "client-0"
    ]
    assert cost.energy_j == pytest.approx(sum(energy), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "changes", "chosen"),
    [
        ({}, {"cost": Cost(9.0, 1.0)}, 1),  # joules count
        ({"cost": "latency"}, {"cost": Cost(9.0, 1.0)}, 0),
        ({}, {"gap": 1.1}, 1),
        ({}, {"age": 2}, 1),
        ({"age_weight": 0.0}, {"age": 2}, 0),
        ({}, {"new_data": 0.5}, 1),
        ({}, {"gap": 2.0, "is_open": False}, 0),
    ],
)
def test_what_is_worth_most_for_its_cost_is_taken(settings, changes, chosen):
    offer = Offer("a", is_open=True, gap=1.0, age=0, new_data=0.0, cost=Cost(2.0, 2.0))
    arrival = Arrival(0, 0.0, None, (offer, offer._replace(name="b", **changes)))
    assert ValuePerCost(**settings).choose(arrival, stream(1)) == chosen


DRIFT = {"window": 0.25, "duration_s": 50.0, "by": "name"}


def test_batches_come_from_a_window_that_moves(tiny_scenario):
    (one, _) = prepare_tasks(tiny_scenario({**TWO, "tasks.a.data.drift": DRIFT}))
    training, task = Training(one.task, 3, 4), one.task
    examples = task.tokens.corpus.train
    for share in task.shares:
        names = [examples[row].fields["name"] for row in share]
        assert names == sorted(names)
    seen = []
    for time_s in (0.0, 25.0, 50.0):
        training.move([0], time_s)
        rows = {row for step in range(8) for row in training.batch(0, step).entries["rows"]}
        places = sorted(task.shares[0].index(row) for row in rows)
        assert places[-1] - places[0] < DRIFT["window"] * len(task.shares[0]) + 1
        seen.append(places)
    assert seen[0][0] == 0
    assert seen[-1][-1] == len(task.shares[0]) - 1
    assert training.new_data(0, 50.0) == 0.0
    assert training.new_data(1, 50.0) == 1.0
    with pytest.raises(ScenarioError, match="the window has reached the last examples at 50 s"):
        training.move([0], 50.1)


def test_a_window_that_holds_everything_changes_nothing(played):
    drift = {f"tasks.{task}.data.drift": {"window": 1.0, "duration_s": 1e6} for task in "ab"}
    policy = {"task_policy": {"kind": "round_robin"}}
    still, drifting = played(policy), played({**policy, **drift})
    assert [losses(still, task) for task in "ab"] == [losses(drifting, task) for task in "ab"]


def test_what_drifts_is_learned_otherwise_and_resumed_to_the_same_bytes(
    played, tiny_scenario, tmp_path, store
):
    changes = {**UNEVEN, "task_policy": {"kind": "value_per_cost"}}
    still = played(changes)
    end_s = still.manifest["simulated_s"]
    drift = {f"tasks.{task}.data.drift": {"duration_s": 1.1 * end_s, "by": "name"} for task in "ab"}
    drifting = played({**changes, **drift})
    assert losses(drifting, "a") != losses(still, "a")

    def stop(progress):
        if (progress.task, progress.round) == ("b", 2):
            raise KeyboardInterrupt

    scenario = tiny_scenario({**TWO, **changes, **drift})
    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "stopped", store=store, watch=stop)
    resume(tmp_path / "stopped", store=store)
    for name in drifting.manifest["files"]:
        assert (tmp_path / "stopped" / name).read_bytes() == (drifting.path / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"scheme": {"kind": "split_federated"}, "task_policy": {"kind": "random"}},
            r"^task_policy.kind: 'random' shares out turns, and those of a take none; give all tasks .*"
            r"\('asynchronous', 'buffered_asynchronous'\) or of all clients \('federated'\)\.$",
        ),
        (
            {"task_policy": {"kind": "fixed", "tasks": ["a"]}},
            r"^task_policy.tasks: no client works on b, as there are 3 clients; name it for one, or .*\.$",
        ),
        (
            {**FEDERATED, "task_policy": {"kind": "fixed"}},
            r"^task_policy.tasks: no client works on b, as a round is of all clients, or there is one; .*\.$",
        ),
        (
            {"task_policy": {"kind": "fixed", "tasks": ["c"]}},
            r"^task_policy.tasks: there is no task 'c'; there are a and b\.$",
        ),
        (
            {"task_policy": {"kind": "random", "until_s": 9.0}, "tasks.a.data.drift": {"duration_s": 8.0}},
            r"^tasks.a.data.drift.duration_s: the window has reached the last examples at 8 s, and "
            r"task_policy.until_s is 9 s; take a longer duration_s\.$",
        ),
        ({"tasks.b.data.drift": {"duration_s": 8.0, "by": "tune"}}, r"^tasks.b.data.drift.by: .*'tune'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(changes, words, tiny_scenario):
    (told,) = check(tiny_scenario({**TWO, **changes}))
    assert re.search(words, told), told
    assert "\n" not in told
