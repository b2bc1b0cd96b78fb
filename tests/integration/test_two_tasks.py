"""Several tasks share devices and air; what each learns is its own."""

from pathlib import Path

import pytest

from cosim.cli import answer
from cosim.errors import DivergedError, ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.report.chart import chart
from cosim.report.comparison import compare
from cosim.report.page.content import run_content
from cosim.report.summary import summarise
from cosim.runs import resume, run
from cosim.scenario.build import check, prepare, prepare_tasks
from cosim.scenario.load import change, load, to_dict
from cosim.scenario.prepared import worlds
from cosim.studies.measures.time_to_loss import TimeToLoss
from cosim.whatifs import whatif
from cosim.world import Moment

INTEGERS = ("asked_ns", "start_ns", "end_ns", "bits", "actor", "peer", "name", "round", "local_step")
SHIPPED = Path(__file__).parents[2] / "scenarios" / "two_tasks.toml"
PAIR = {
    "scheme": None,
    "data": None,
    "tasks.speech.scheme": {"kind": "split_federated", "num_rounds": 2, "local_steps": 2},
    "tasks.speech.data": {
        "source": {"kind": "embedded", "num_train": 40, "num_test": 8},
        "sequence_length": 48,
    },
    "tasks.names.scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1},
    "tasks.names.data": {
        "source": {"kind": "embedded", "domain": "hotel", "num_train": 40, "num_test": 8},
        "sequence_length": 40,
    },
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
}


@pytest.fixture(scope="module")
def pair(tiny_scenario):
    return tiny_scenario(PAIR)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def done(pair, store, tmp_path_factory):
    return Record.open(run(pair, tmp_path_factory.mktemp("runs") / "pair", store=store))


def timeline(record, task):
    spans = record.frame("spans")
    return spans[spans.task == task].reset_index(drop=True)[list(INTEGERS)]


def without(scenario, name):
    written = to_dict(scenario)
    del written["tasks"][name]
    return change(scenario, {"tasks": written["tasks"]})


def test_a_task_with_a_name_takes_the_time_of_one_without(tiny_scenario, tmp_path):
    fading = {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01}}
    plain = Record.open(run(tiny_scenario(fading), tmp_path / "plain", timing_only=True))
    named = tiny_scenario({**fading, "tasks.only": {}})
    named = Record.open(run(named, tmp_path / "named", timing_only=True))
    assert timeline(named, "only").equals(timeline(plain, ""))
    assert set(named.frame("rounds").task) == set(named.frame("metrics").task) == {"only"}


def test_a_task_that_meets_no_other_anywhere_takes_the_time_it_takes_alone(tiny_scenario, tmp_path):
    """The second one computes on a server that the first one has no use for."""
    changes = {
        "scheme": None,
        "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
        "tasks.air.scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2},
        "tasks.ground.scheme": {"kind": "centralized", "num_rounds": 5, "local_steps": 1},
    }
    both = tiny_scenario(changes)
    alone = [
        Record.open(run(one, tmp_path / str(number), timing_only=True))
        for number, one in enumerate((both, without(both, "ground"), without(both, "air")))
    ]
    assert timeline(alone[0], "air").equals(timeline(alone[1], "air"))
    assert timeline(alone[0], "ground").equals(timeline(alone[2], "ground"))


def test_what_a_task_learns_does_not_depend_on_the_others(pair, done, store, tmp_path):
    waited = []
    for name, other in (("speech", "names"), ("names", "speech")):
        alone = Record.open(run(without(pair, other), tmp_path / name, store=store))
        fingerprint = f"learning.{name}"
        assert alone.manifest["fingerprints"][fingerprint] == done.manifest["fingerprints"][fingerprint]
        assert alone.manifest["works"]["computed"] == 0  # every key is the same
        waited.append(not timeline(alone, name).equals(timeline(done, name)))
    assert any(waited)


def test_tasks_that_are_alike_draw_their_own_chance(tiny_scenario):
    one, other = (one.task for one in prepare_tasks(tiny_scenario({"tasks.a": {}, "tasks.b": {}})))
    alone = prepare(tiny_scenario()).task
    assert len({one.seed, other.seed, alone.seed}) == 3
    assert one.shares != other.shares
    assert one.key != other.key


def test_a_client_sends_for_one_task_at_a_time(done):
    spans = done.frame("spans")
    sent = spans[(spans.kind == "transfer") & (spans.end_ns > spans.start_ns)]
    for _, mine in sent[sent.actor.str.startswith("client-")].groupby(["actor", "peer"]):
        mine = mine.sort_values("start_ns")
        assert (mine.start_ns.to_numpy()[1:] >= mine.end_ns.to_numpy()[:-1]).all()
        assert set(mine.task) <= {"speech", "names"}
    assert {"speech", "names"} == set(sent.task)


def test_adapters_and_fingerprints_are_kept_apart(done):
    assert {"adapter/names/adapter_config.json", "adapter/speech/adapter_config.json"} <= set(
        done.manifest["files"]
    )
    prints = done.manifest["fingerprints"]
    assert set(prints) == {"timeline", "learning", "learning.speech", "learning.names"}
    assert prints["learning.speech"] != prints["learning.names"]


def test_reports_tell_the_tasks_apart(done, tmp_path):
    summary = summarise(done)
    assert [one.task for one in summary.learning] == ["names", "speech"]
    assert {task for _, task in chart(done).losses} == {"names", "speech"}
    curves = run_content(done)["curves"]
    assert {(one["look"], one["task"]) for one in curves} >= {("eval_loss", "names"), ("eval_loss", "speech")}
    assert all(one["label"].endswith(f" of {one['task']}") for one in curves)
    wider = Record.open(whatif(done.path, {"radio.noise_figure_db": 20.0}, out=tmp_path / "wider"))
    compared = compare(done, wider)
    assert compared.other_learning == {"names": (), "speech": ()}
    assert {old.task for old, _ in compared.levels} <= {"names", "speech"}
    assert TimeToLoss(level=1e9, task="names").of(done) == 0.0


def test_a_change_of_the_air_computes_nothing(done, store, tmp_path):
    changed = Record.open(
        whatif(done.path, {"radio.noise_figure_db": 20.0}, out=tmp_path / "out", store=store)
    )
    assert changed.manifest["works"]["computed"] == 0
    was, now = (record.manifest["fingerprints"] for record in (done, changed))
    assert was["timeline"] != now["timeline"]
    assert all(was[name] == now[name] for name in was if name != "timeline")


def test_a_run_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(pair, done, store, tmp_path):
    def stop(progress):
        if (progress.task, progress.round) == ("names", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pair, tmp_path / "stopped", store=store, watch=stop)
    resume(tmp_path / "stopped", store=store)
    for name in done.manifest["files"]:
        assert (tmp_path / "stopped" / name).read_bytes() == (done.path / name).read_bytes()


def test_memory_holds_the_models_of_all_tasks(pair):
    needs = []
    for name in ("speech", "names"):
        (alone,) = prepare_tasks(without(pair, "names" if name == "speech" else "speech"))
        scheme, allocation = alone.scenario.scheme, alone.allocation
        needs.append(scheme.memory_bytes(alone.task, allocation.cut_layer, allocation.lora_rank)["client"])
    memory = "clients.memory_bytes"
    prepare_tasks(change(pair, {memory: sum(needs) + 1.0}))
    (told,) = check(change(pair, {memory: sum(needs) - 1.0}))
    assert told.startswith("client-0: training of names with cut_layer 3 and rank 4 and training of speech ")
    assert f"needs {sum(needs) / 1e6:.1f} MB" in told


@pytest.mark.parametrize("kind", ["fedsllm", "nested"])
def test_an_allocator_that_plans_the_rounds_of_one_task_is_refused(pair, kind):
    (told,) = check(change(pair, {"allocator": {"kind": kind}}))
    assert told == (
        f"allocator.kind: {kind!r} decides about the rounds of one task, and names and speech share what is "
        "granted; take one that looks at links alone: 'equal', 'given', 'random', 'time_shared'."
    )
    assert check(without(change(pair, {"allocator": {"kind": kind}}), "names")) == []


def test_faults_of_a_task_are_told_with_their_place(pair):
    told = check(change(pair, {"tasks.speech.data.sequence_length": 500, "model.cut_layer": 9}))
    assert told[0].startswith("tasks.speech.data.sequence_length: 500 tokens are more than")
    assert [one for one in told if one.startswith("model.cut_layer: 9 leaves nothing")]


def test_what_is_about_one_task_says_so_of_several(pair):
    with pytest.raises(ScenarioError, match="tiny: has the tasks names and speech, and this is about one"):
        prepare(pair)


def test_a_set_up_before_the_first_round_is_a_round_like_others(tiny_scenario):
    prepared = prepare(tiny_scenario({"scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1}}))
    (world,) = worlds([prepared], lambda one: lambda rank: TimingOnly())

    def sets_up():
        training = world.begin()
        start = training.start("whole").adapter.node
        world.begin_round(0)
        for client in range(world.num_clients):
            yield from world.send("federated_uplink", client, "set_up", Moment(0), 800, start, ())
        world.end_round(0)

    world.play(sets_up())
    rounds = world.log.rounds
    assert (list(rounds.round), list(rounds.start_ns), list(rounds.end_ns)) == ([0], [0], [world.clock.now])
    assert world.clock.now > 0


def test_the_shipped_scenario_plays(tmp_path):
    scenario = load(SHIPPED)
    small = change(
        scenario,
        {
            f"tasks.{name}.scheme.{what}": 1
            for name in scenario.tasks
            for what in ("num_rounds", "local_steps")
        },
    )
    record = Record.open(run(small, tmp_path / "small", timing_only=True))
    assert set(record.frame("spans").task) == {"captions", "intents"}


def test_a_task_that_diverges_is_named(pair, tmp_path):
    wild = {"training.optimizer": {"kind": "sgd", "learning_rate": 1e38}}
    place = r"round 1 of (speech|names), .*: the training diverged"
    with pytest.raises(DivergedError, match=place):
        run(change(pair, wild), tmp_path / "wild")


def test_the_events_of_a_run_reach_all_tasks(pair, tmp_path):
    event = {"at_s": 0.002, "set": {"radio.noise_figure_db": 25.0}}
    record = Record.open(run(change(pair, {"events": [event]}), tmp_path / "run", timing_only=True))
    plain = Record.open(run(pair, tmp_path / "plain", timing_only=True))
    for task in ("speech", "names"):
        assert len(timeline(record, task)) == len(timeline(plain, task))
    assert record.manifest["simulated_s"] > plain.manifest["simulated_s"]


def test_summaries_leave_out_shares_of_time_that_overlap(pair, done, tmp_path, capsys):
    short = Record.open(
        run(pair.model_copy(update={"record": "summary"}), tmp_path / "short", timing_only=True)
    )
    ours, theirs = summarise(short), summarise(done)
    assert (ours.actors, ours.energy_j) == ((), pytest.approx(theirs.energy_j, rel=1e-12))
    assert "what overlaps" in ours.notes[-1]
    assert answer(["compare", str(short.path), str(done.path)]) == 0
    assert "clients waiting" not in capsys.readouterr().out
    assert answer(["timeline", str(short.path)]) == 0
    told = capsys.readouterr().out
    assert "adapter_upload of speech" in told
    assert "share of time" not in told
