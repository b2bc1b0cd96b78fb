"""Split federated training learns what one place would, in whatever order clients are served."""

import pytest
import torch
from safetensors.torch import load_file

from cosim.learning.execution import make_executor
from cosim.learning.split_nodes import split_step
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.testing.ulps import ulps_apart

CENTRALIZED = {"kind": "centralized", "num_rounds": 2, "local_steps": 2}


@pytest.fixture(scope="module")
def trained(tiny_scenario, tmp_path_factory):
    """Run the tiny scenario in float64 with these changes; return its record."""
    known, place = {}, tmp_path_factory.mktemp("trained")

    def train(changes, again=False):
        """Return the record; each is run once, unless it is wanted again."""
        scenario = tiny_scenario({"model.dtype": "float64", **changes})
        name = scenario.model_dump_json()
        if again or name not in known:
            known[name] = Record.open(run(scenario, place / f"run-{len(list(place.iterdir()))}"))
        return known[name]

    return train


def adapter_of(record):
    return load_file(record.path / "adapter" / "adapter_model.safetensors")


def adapter_bytes(record):
    return (record.path / "adapter" / "adapter_model.safetensors").read_bytes()


def losses_of(record):
    """Return every learned number by (round, local step, actor, name)."""
    rows = record.metrics.to_pylist()
    return {
        (row["round"], row["local_step"], row["actor"], row["name"]): row["value"]
        for row in rows
        if row["name"].startswith(("train_", "eval_"))
    }


def furthest(left, right):
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("cut_layer", [1, 2])
@pytest.mark.parametrize("optimizer", [{"kind": "adamw", "learning_rate": 1e-2}, {"kind": "sgd"}])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_one_client_learns_what_centralised_training_does_bit_for_bit(trained, cut_layer, optimizer, dropout):
    changes = {"clients.count": 1, "training.optimizer": optimizer, "lora.dropout": dropout}
    split = trained({**changes, "model.cut_layer": cut_layer})
    whole = trained({**changes, "scheme": CENTRALIZED})  # nothing is cut there
    assert losses_of(split) == losses_of(whole)
    assert adapter_bytes(split) == adapter_bytes(whole)
    assert split.manifest["fingerprints"]["learning"] == whole.manifest["fingerprints"]["learning"]


@pytest.mark.parametrize(
    "partition", [{"kind": "iid"}, {"kind": "size", "fractions": [0.5, 0.2, 0.1]}], ids=["equal", "unequal"]
)
def test_a_round_of_one_sgd_step_is_a_centralised_step_on_all_batches(trained, partition):
    changes = {
        "data.partition": partition,
        "training.optimizer": {"kind": "sgd", "learning_rate": 0.2},
        "scheme": {"kind": "split_federated", "num_rounds": 4, "local_steps": 1},
    }
    split = trained(changes)
    whole = trained({**changes, "scheme": {"kind": "centralized", "num_rounds": 4, "local_steps": 1}})
    assert furthest(adapter_of(split), adapter_of(whole)) <= 1e-10
    left, right = losses_of(split), losses_of(whole)
    assert left.keys() == right.keys()
    assert all(left[at] == pytest.approx(right[at], abs=1e-10) for at in left)
    moved = losses_of(whole)
    assert moved[4, 0, "main-server", "eval_loss"] < moved[0, 0, "main-server", "eval_loss"] - 1e-3


def test_more_local_steps_than_one_part_from_centralised_training(trained):
    """The equality above is no accident of an adapter that does not move."""
    sgd = {"training.optimizer": {"kind": "sgd", "learning_rate": 0.2}}
    split, whole = trained(sgd), trained({**sgd, "scheme": CENTRALIZED})
    assert furthest(adapter_of(split), adapter_of(whole)) > 1e-8


@pytest.mark.parametrize("local_steps", [1, 3])
@pytest.mark.parametrize("optimizer", [{"kind": "adamw", "learning_rate": 1e-2}, {"kind": "sgd"}])
def test_one_federated_client_learns_what_centralised_training_does_bit_for_bit(
    trained, optimizer, local_steps
):
    changes = {"clients.count": 1, "training.optimizer": optimizer}
    steps = {"num_rounds": 2, "local_steps": local_steps}
    federated = trained({**changes, "scheme": {"kind": "federated", **steps}})
    whole = trained({**changes, "scheme": {"kind": "centralized", **steps}})
    assert losses_of(federated) == losses_of(whole)
    assert adapter_bytes(federated) == adapter_bytes(whole)
    assert federated.manifest["fingerprints"]["learning"] == whole.manifest["fingerprints"]["learning"]


def test_a_federated_round_averages_what_each_client_would_learn_alone(tiny_scenario):
    """FedAvg against a mean over four clients, each trained by hand from the same start."""
    sizes = {"kind": "size", "fractions": [0.4, 0.1, 0.3, 0.2]}
    task = prepare(tiny_scenario({"clients.count": 4, "data.partition": sizes})).task
    training = Training(task, task.shape.num_layers, task.trainable.lora_rank)
    start = training.start("whole")
    alone = {client: local_round(training, client, start, range(3)).after for client in range(4)}
    average = training.mean({client: side.adapter for client, side in alone.items()}).ref("adapter")
    (found, *each) = make_executor(task, task.trainable.lora_rank).materialise(
        (), [average, *(side.adapter for side in alone.values())]
    )
    for name, tensor in found.items():
        expected = sum(weight * one[name].double() for weight, one in zip(task.weights, each, strict=True))
        assert ulps_apart(tensor, expected) <= 4  # four numbers are summed in float32


def test_a_server_that_serves_as_clients_arrive_teaches_the_same(trained):
    joint = trained({"scheme.server_batch": "joint"})
    each = trained({"scheme.server_batch": "per_client"})
    assert joint.manifest["fingerprints"]["learning"] == each.manifest["fingerprints"]["learning"]
    assert adapter_bytes(joint) == adapter_bytes(each)
    assert joint.manifest["fingerprints"]["timeline"] != each.manifest["fingerprints"]["timeline"]


def test_clients_with_other_data_learn_other_adapters_before_they_are_averaged(tiny_scenario):
    task = prepare(tiny_scenario()).task
    training = Training(task, cut_layer=1, lora_rank=2)
    client, server = training.start("client"), training.start("server")
    ends = [split_step(training, number, client, server, 0).after.adapter for number in range(2)]
    (first, second) = make_executor(task, 2).materialise((), ends)
    assert furthest(first, second) > 0.0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_order_in_which_works_are_computed_changes_nothing(tiny_scenario, dropout):
    task = prepare(tiny_scenario({"model.dtype": "float64", "lora.dropout": dropout})).task
    training = Training(task, cut_layer=1, lora_rank=2)
    client, server = training.start("client"), training.start("server")
    ends = [split_step(training, number, client, server, 0).after.adapter for number in range(3)]
    together = make_executor(task, 2).materialise((), ends)
    executor = make_executor(task, 2)
    backwards = [executor.materialise((), [end])[0] for end in reversed(ends)]
    for one, other in zip(together, reversed(backwards), strict=True):
        assert furthest(one, other) == 0.0


def test_training_reads_and_leaves_no_global_random_state(trained):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained({"lora.dropout": 0.3}, again=True)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = trained({"lora.dropout": 0.3}, again=True)
    assert adapter_bytes(first) == adapter_bytes(second)


def test_a_work_computed_twice_gives_the_same_and_writes_into_nothing(tiny_scenario):
    task = prepare(tiny_scenario({"model.dtype": "float64"})).task
    training = Training(task, cut_layer=1, lora_rank=2)
    client, server = training.start("client"), training.start("server")
    exchange = split_step(training, 0, client, server, 0)
    executor = make_executor(task, 2)
    adapter, optimizer = executor.materialise(
        [client.adapter, client.optimizer], [client.adapter, client.optimizer]
    )
    copies = [{name: one.clone() for name, one in table.items()} for table in (adapter, optimizer)]
    first, again = (executor.materialise((), [exchange.after.adapter])[0] for _ in range(2))
    assert furthest(first, again) == 0.0
    for table, copy in zip((adapter, optimizer), copies, strict=True):
        assert furthest(table, copy) == 0.0


def test_the_loss_falls_with_every_optimiser(trained):
    for optimizer in ({"kind": "adamw", "learning_rate": 2e-2}, {"kind": "sgd", "learning_rate": 0.3}):
        losses = losses_of(trained({"training.optimizer": optimizer, "scheme.num_rounds": 4}))
        assert losses[4, 0, "main-server", "eval_loss"] < losses[0, 0, "main-server", "eval_loss"] - 1e-3


def test_a_diverging_training_is_recorded_to_its_end(trained):
    """A loss too large for e to be raised to it must not break off the run.

    Attention is left as it is: the gradients of its kernel are not finite with scores as large.
    """
    sgd = {"kind": "sgd", "learning_rate": 1e5}
    changes = {"model.task": "classification", "lora.target_modules": ["c_fc"]}
    record = trained({**changes, "training.optimizer": sgd})
    assert record.status == "complete"
    assert losses_of(record)[2, 0, "main-server", "eval_loss"] > 1000.0


@pytest.mark.parametrize("scheme", ["split_federated", "centralized"])
def test_a_classifier_trains_as_well(trained, scheme):
    record = trained(
        {"model.task": "classification", "scheme": {"kind": scheme, "num_rounds": 2, "local_steps": 1}}
    )
    names = {name for *_, name in losses_of(record)}
    assert names == {"train_loss", "eval_loss", "eval_accuracy"}


def test_evaluations_come_before_the_first_round_on_schedule_and_after_the_last(trained):
    record = trained({"scheme.num_rounds": 5, "scheme.local_steps": 1, "scheme.evaluate_every": 2})
    rounds = [at[0] for at in losses_of(record) if at[-1] == "eval_loss"]
    assert rounds == [0, 2, 4, 5]
