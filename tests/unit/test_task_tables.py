"""The tables of tasks in a scenario: where they may be, what they are called, how they are changed."""

import pytest

from cosim.cli.listing import listing
from cosim.errors import ScenarioError
from cosim.leaves import named
from cosim.scenario.differences import switches
from cosim.scenario.inputs import inputs, paths_in
from cosim.scenario.load import change, load, read_dict, to_dict, to_toml
from cosim.scenario.settings import Scenario
from cosim.studies.measures.metric import Metric
from cosim.studies.measures.time_to_loss import TimeToLoss

PLAIN = Scenario(name="x")
TWO = change(
    PLAIN,
    {"tasks.a.scheme.kind": "federated", "tasks.a.scheme.num_rounds": 3, "tasks.b.model.cut_layer": 2},
)


def refused(given):
    with pytest.raises(ScenarioError) as fault:
        read_dict({"name": "x", **given}, "x.toml")
    (line,) = str(fault.value).splitlines()
    return line


def test_a_scenario_without_tasks_is_written_as_it_was():
    assert "tasks" not in to_dict(PLAIN)
    assert PLAIN.by_task == {"": PLAIN}


def test_each_task_is_a_scenario_by_itself():
    a, b = TWO.by_task["a"], TWO.by_task["b"]
    assert (a.scheme.kind, a.scheme.num_rounds, a.model.cut_layer) == ("federated", 3, 1)
    assert (b.scheme, b.model.cut_layer) == (PLAIN.scheme, 2)
    assert a.clients == b.clients == PLAIN.clients
    assert a.tasks == b.tasks == {}


def test_a_scenario_with_tasks_comes_back_from_its_file(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(to_toml(TWO), encoding="utf-8")
    assert load(path) == TWO
    assert to_dict(TWO).keys().isdisjoint({"scheme", "model"})
    assert set(to_dict(TWO)) >= {"data", "training", "lora"}


def test_the_short_form_of_what_is_trained_holds_in_a_task():
    given = {"tasks": {"a": {"trainable": {"kind": "lora", "rank": 2}}, "b": {"trainable": {"kind": "full"}}}}
    scenario = read_dict({"name": "x", **given}, "x.toml")
    assert scenario.by_task["a"].trained == scenario.by_task["a"].lora
    assert scenario.by_task["b"].trained.kind == "full"
    assert read_dict(to_dict(scenario), "x.toml") == scenario


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"model": {"cut_layer": 2}, "tasks": {"a": {"model": {}}}},
            "scenario: [model] was given for all tasks, and tasks.a has one of its own; give it once "
            "for all, or in each task: tasks.a.model and so on",
        ),
        (
            {"lora": {"rank": 2}, "tasks": {"a": {"trainable": {"kind": "full"}}}},
            "scenario: [lora] was given for all tasks, and tasks.a has one of its own; give it once "
            "for all, or in each task: tasks.a.lora and so on",
        ),
        (
            {"tasks": {"a": {"lora": {}, "trainable": {"kind": "full"}}}},
            "scenario: [lora] and [trainable] were both given, and either says what is trained; leave one of "
            """them out ([lora] is short for [trainable] with kind = "lora")""",
        ),
        (
            {"tasks": {"a": {}, "A": {}}},
            "tasks: 'a' and 'A' differ in case alone, and so do their folders; give one of them another name",
        ),
        (
            {"tasks": {"a/b": {}}},
            "tasks: 'a/b' cannot name a task: it names a folder, so give it 1 to 64 letters, digits, - "
            "and _, the first a letter or a digit",
        ),
        ({"tasks": {"a": {"radio": {}}}}, "tasks.a.radio: no such setting"),
        ({"tasks": {"a": {"schema": {}}}}, "tasks.a.schema: no such setting; did you mean 'scheme'?"),
        ({"tasks": {"a": 3}}, "tasks.a: must be a table, got 3"),
        ({"tasks": 3}, "tasks: must be a table, got 3"),
        (
            {"tasks": {"a": {"model": {"cut_layer": 0}}}},
            "tasks.a.model.cut_layer: should be greater than or equal to 1, got 0",
        ),
    ],
)
def test_what_is_wrong_with_tasks_is_told_in_a_line(given, told):
    assert refused(given) == f"x.toml: {told}"


def test_settings_of_a_task_are_changed_by_their_path():
    changes = {"tasks.a.scheme.kind": "split_federated"}
    changed = change(TWO, changes)
    assert changed.by_task["a"].scheme.num_rounds == 3  # what both kinds have is kept
    (one,) = switches(TWO, changed, named(changes))
    assert str(one).startswith("tasks.a.scheme: federated -> split_federated; kept num_rounds = 3")
    with pytest.raises(ScenarioError, match=r"\[model\] was given for all tasks, and tasks\.a has one"):
        change(TWO, {"model.dtype": "float64"})
    assert change(TWO, {"lora.rank": 2}).by_task["b"].lora.rank == 2


def test_files_that_a_task_names_are_inputs(tmp_path):
    (tmp_path / "train.csv").write_text("text\na\n", encoding="utf-8")
    (tmp_path / "x.toml").write_text(
        '[tasks.a.data]\nsource = { kind = "file", train_path = "train.csv", target_column = "text", '
        "test_fraction = 0.5 }\n[tasks.b]\n",
        encoding="utf-8",
    )
    scenario = load(tmp_path / "x.toml")
    assert list(paths_in(scenario)) == [tmp_path / "train.csv"]
    assert inputs(scenario) == {"tasks.a.data.source.train_path": tmp_path / "train.csv"}


def test_parts_are_listed_by_the_path_of_a_task_too():
    assert listing("tasks.a.scheme") == listing("scheme")


def test_a_measure_of_a_task_says_of_which():
    assert TimeToLoss(level=2.0, task="a").name == "time_to_loss 2 of a"
    assert TimeToLoss(level=2.0, task="a").misfit(("a", "b")) is None
    assert Metric(metric="eval_loss").misfit(()) is None
    assert Metric(metric="eval_loss").misfit(("a", "b")) == (
        "the scenario has several tasks; set its task to one of 'a', 'b'"
    )
    assert Metric(metric="eval_loss", task="c").misfit(("a", "b")) == (
        "there is no task 'c'; set its task to one of 'a', 'b'"
    )
    assert Metric(metric="eval_loss", task="c").misfit(()) == (
        "is of the task 'c', and the scenario names none; leave task out"
    )
