"""Clients computed together learn what they learn one after the other."""

import csv
import logging
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosim.graph.batched import Batched, group_of, plan
from cosim.graph.executor import Sequential
from cosim.graph.node import Graph
from cosim.graph.store import Store
from cosim.learning.base.random import RandomBase
from cosim.learning.data.embedded import Embedded
from cosim.learning.data.file import File
from cosim.learning.execution import load_model, make_executor
from cosim.learning.families.gpt2 import GPT2Body
from cosim.learning.learner import Learner, Slab
from cosim.learning.operations.split_step import client_forward
from cosim.learning.operations.start import start
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.optimizer.sgd import Sgd
from cosim.learning.results import evaluate
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.stacks import StackedLearner
from cosim.learning.task import Task
from cosim.learning.trainable.lora import Lora
from cosim.learning.training import Training
from cosim.learning.whole_nodes import whole_step
from cosim.rng import stream
from cosim.scenario.build import prepare
from cosim.testing.tiny_bases import TINY

# peft asks transformers a question under a name that newer releases have renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

NUM_CLIENTS, NUM_STEPS, RANK = 5, 2, 2  # a momentum acts in the second step
# numbers are below ten, and sums of some hundred terms are taken one after the other over a few steps;
# one by one, attention is another kernel, whose exponentials in float32 have other last bits
CLOSE = {"float32": 4e-5, "float64": 1e-12}
ADAM = 1e-10  # a rounding of a small gradient, over Adam's 1e-8, times a rate of 1e-3
FAMILIES = ("gpt2", "llama", "bert")
SGD = Sgd(learning_rate=0.1, momentum=0.9)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Return a file of texts of very unequal length, each with a label."""
    path = tmp_path_factory.mktemp("labelled") / "texts.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topic"])
        writer.writerows([["ab cd " * (1 + row % 7), "xyz"[row % 3]] for row in range(60)])
    return path


@pytest.fixture(scope="session")
def task(tokenizer_path, labelled):
    """Return what makes a task of five clients with a tiny model."""

    def made(
        family="gpt2",
        dtype="float64",
        cut_layer=1,
        optimizer=SGD,
        dropout=0.0,
        device="cpu",
        blocks=None,
        use_dora=False,
        num_clients=NUM_CLIENTS,
        **training,
    ):
        sizes = {"vocab_size": 300, "initializer_range": 0.3}
        sizes["n_positions" if family == "gpt2" else "max_position_embeddings"] = 64
        base = RandomBase(config={**TINY[family], **sizes}, tokenizer_path=tokenizer_path)
        classifies = family == "bert"
        source = File(train_path=labelled, test_fraction=0.2, label_column="topic")
        return Task.prepare(
            Model(
                base=base,
                dtype=dtype,
                cut_layer=cut_layer,
                device=device,
                task="classification" if classifies else "causal_lm",
            ),
            Lora(rank=RANK, dropout=dropout, blocks=blocks, use_dora=use_dora),
            Data(
                source=source if classifies else Embedded(num_train=60, num_test=8),
                sequence_length=20 if classifies else 64,
                loss_on="all",
            ),
            TrainingSettings(batch_size=3, optimizer=optimizer, **training),
            num_clients=num_clients,
            num_steps=NUM_STEPS,
            seed=1,
        )

    return made


def executors(task, max_group=64):
    """Return both ways of computing a task."""
    settings = task.model.base.model_dump_json(), task.model.dtype, task.trainable.model_dump_json()
    return (
        Sequential(lambda: Learner(task, model_of(task, "sequential", *settings))),
        Batched(lambda: StackedLearner(task, model_of(task, "batched", *settings)), max_group),
    )


_models = {}


def model_of(task, *key):
    """Return a model of these settings, loaded once: to compute with it changes nothing in it."""
    if key not in _models:
        _models[key] = load_model(task, RANK)
    return _models[key]


class Played:
    """A split training of a few steps and an average, with everything worth comparing."""

    def __init__(self, task):
        training = self.training = Training(task, task.model.cut_layer, RANK)
        clients = [training.start("client")] * task.num_clients
        server = training.start("server")
        self.outputs, self.split_steps = [], []
        for step in range(NUM_STEPS):
            split_steps = [
                split_step(training, client, side, server, step) for client, side in enumerate(clients)
            ]
            server = server_update(training, server, split_steps, step)
            clients = [one.after for one in split_steps]
            self.split_steps += split_steps
            for one in split_steps:
                self.outputs += [one.loss, one.server.ref("adapter_gradient")]
                if training.trains(0):
                    self.outputs.append(one.server.ref("gradient"))
        average = training.mean({client: side.adapter for client, side in enumerate(clients)}).ref("adapter")
        self.outputs += [average, *server_and(server, clients)]

    def on(self, executor):
        """Return all values as this executor computes them."""
        return executor.materialise((), self.outputs)


def server_and(server, clients):
    sides = [server, *clients]
    return [output for side in sides for output in (side.adapter, side.optimizer)]


def numbers(values):
    """Return every tensor in values, in a fixed order."""
    for value in values:
        if isinstance(value, dict):
            yield from (value[name] for name in sorted(value))
        else:
            yield value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def furthest(left, right):
    pairs = list(zip(numbers(left), numbers(right), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("cut_layer", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_gradients_and_adapters_are_those_of_one_by_one(task, family, cut_layer, dtype):
    told = task(family, dtype, cut_layer, num_clients=3)
    sequential, batched = executors(told)
    played = Played(told)
    assert furthest(played.on(sequential), played.on(batched)) <= CLOSE[dtype]
    assert batched.fallback_reason is None
    assert batched.num_computed == sequential.num_computed


@pytest.mark.parametrize("blocks", [(2, 3), (3,), (1,), (1, 3)])
@pytest.mark.parametrize(
    ("family", "cut_layer"),
    [
        *(("gpt2", 1), ("gpt2", 2), ("llama", 1), ("bert", 1)),
        *(pytest.param(family, 2, marks=pytest.mark.slow) for family in ("llama", "bert")),
    ],
)
def test_adapters_may_be_in_any_blocks(task, family, cut_layer, blocks):
    told = task(family, cut_layer=cut_layer, blocks=blocks, num_clients=2)
    sequential, batched = executors(told)
    played = Played(told)
    assert played.training.trains(0) == (min(blocks) <= cut_layer)
    assert furthest(played.on(sequential), played.on(batched)) <= CLOSE["float64"]
    assert batched.fallback_reason is None


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_differs_between_clients_and_inside_a_batch(task, family):
    """What the other tests rest on: some batches are full, some are padded, each differently."""
    told = task(family)
    masks = [told.tokens.train.batch(share).attention_mask for share in told.shares]
    lengths = {int(one.sum()) for mask in masks for one in mask}
    assert len(lengths) > 3
    assert told.data.sequence_length in lengths


@pytest.mark.parametrize("max_group", [1, 2, 3])
def test_groups_may_be_of_any_size(task, max_group):
    told = task()
    sequential, batched = executors(told, max_group)
    played = Played(told)
    assert furthest(played.on(sequential), played.on(batched)) <= 1e-12


def test_clients_with_little_data_repeat_it_and_go_together_with_the_others(task):
    told = task()
    told = replace(told, shares=((0, 1, 2, 3), (4,), (5, 6, 7), (8,), (9, 10, 11, 12)))
    sequential, batched = executors(told)
    played = Played(told)
    assert played.split_steps[1].forward.params["batch"]["rows"] == [4, 4, 4]
    assert furthest(played.on(sequential), played.on(batched)) <= 1e-12
    assert batched.fallback_reason is None


@pytest.mark.parametrize(
    "optimizer",
    [AdamW(learning_rate=1e-3), AdamW(max_grad_norm=0.01), Sgd(learning_rate=0.1, max_grad_norm=0.5)],
    ids=["adamw", "adamw clipped", "sgd clipped"],
)
def test_every_client_steps_and_is_clipped_by_itself(task, optimizer):
    told = task(optimizer=optimizer, num_clients=3)
    sequential, batched = executors(told)
    played = Played(told)
    assert furthest(played.on(sequential), played.on(batched)) <= ADAM


def test_clients_that_took_different_numbers_of_steps_go_together(task):
    told = task(optimizer=AdamW())
    sequential, batched = executors(told)
    training = Training(told, 1, RANK)
    server, fresh = training.start("server"), training.start("client")
    ahead = split_step(training, 0, fresh, server, 0).after
    split_steps = [
        split_step(training, client, side, server, 1) for client, side in enumerate([ahead, fresh, fresh])
    ]
    read = [output for one in split_steps for output in (one.after.adapter, one.after.optimizer)]
    (*_, left), (*_, right) = ([executor.materialise((), read)] for executor in (sequential, batched))
    assert furthest(left, right) <= ADAM
    assert [float(side["step"]) for side in right[1::2]] == [2.0, 1.0, 1.0]


def test_a_client_whose_step_nobody_asks_for_changes_no_other(task):
    told = task()
    sequential, batched = executors(told)
    training = Training(told, 1, RANK)
    server, fresh = training.start("server"), training.start("client")
    split_steps = [split_step(training, client, fresh, server, 0) for client in range(NUM_CLIENTS)]
    read = [one.loss for one in split_steps]
    read += [one.after.adapter for one in split_steps if one.client != 2]
    assert furthest(sequential.materialise((), read), batched.materialise((), read)) <= 1e-12


def test_clients_that_come_back_one_by_one_are_right_too(task):
    """Split learning in turns: all could go forward together, but the server has moved on in between."""
    told = task()
    sequential, batched = executors(told)
    training = Training(told, 1, RANK)
    server, fresh, read = training.start("server"), training.start("client"), []
    for client in range(NUM_CLIENTS):
        exchange = split_step(training, client, fresh, server, client)
        server = server_update(training, server, [exchange], client)
        read += [exchange.after.adapter, server.adapter]
    assert furthest(sequential.materialise((), read), batched.materialise((), read)) <= 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_whole_model_are_those_of_one_by_one(task, family):
    told = task(family, num_clients=3)
    sequential, batched = executors(told)
    training = Training(told, 1, RANK)
    whole, read = training.start("whole"), []
    for step in range(NUM_STEPS):
        whole, losses = whole_step(training, whole, step)
        read += [*losses, whole.adapter, whole.optimizer]
    read.append(evaluate(training, whole.adapter).ref("loss"))
    assert furthest(sequential.materialise((), read), batched.materialise((), read)) <= 1e-12
    assert batched.fallback_reason is None


def rounds(task, executor, count):
    """Play rounds that are settled one by one; return all that was learned."""
    training = Training(task, 1, RANK)
    clients, server = [training.start("client")] * NUM_CLIENTS, training.start("server")
    learned = []
    for step in range(count):
        split_steps = [
            split_step(training, client, side, server, step) for client, side in enumerate(clients)
        ]
        server = server_update(training, server, split_steps, step)
        clients = [one.after for one in split_steps]
        learned += executor.materialise(server_and(server, clients), [one.loss for one in split_steps])
    return [*learned, *executor.materialise((), server_and(server, clients))]


def test_a_next_round_builds_on_what_was_kept(task):
    told = task()
    sequential, batched = executors(told)
    assert furthest(rounds(told, sequential, 3), rounds(told, batched, 3)) <= 1e-12


@pytest.mark.parametrize("executor", ["sequential", "batched"])
def test_rounds_in_the_store_are_recalled_and_the_rest_builds_on_them(task, tmp_path, executor):
    told = task(executor=executor)
    whole = make_executor(told, RANK)
    expected = rounds(told, whole, 3)
    store = Store(tmp_path / "store")
    begun, ended, again = (make_executor(told, RANK, store) for _ in range(3))
    rounds(told, begun, 1)
    learned = rounds(told, ended, 3)
    assert list(map(float, expected[: 3 * NUM_CLIENTS])) == list(map(float, learned[: 3 * NUM_CLIENTS]))
    assert ended.num_computed == whole.num_computed - begun.num_computed
    assert ended.fallback_reason is None
    assert rounds(told, again, 3)[: 3 * NUM_CLIENTS] == learned[: 3 * NUM_CLIENTS]
    assert again.num_computed == 0
    assert again.num_recalled == whole.num_computed


def test_a_round_of_which_the_store_has_a_part_is_completed(task, tmp_path):
    told = task(executor="batched")
    store, expected = Store(tmp_path / "store"), rounds(told, executors(told)[0], 1)
    training = Training(told, 1, RANK)
    fresh, server = training.start("client"), training.start("server")
    some = [split_step(training, client, fresh, server, 0).after.adapter for client in (1, 3)]
    make_executor(told, RANK, store).materialise(some, ())
    completed = make_executor(told, RANK, store)
    assert furthest(expected[:NUM_CLIENTS], rounds(told, completed, 1)[:NUM_CLIENTS]) <= 1e-12


def test_what_is_kept_holds_no_graph_and_no_more_than_its_own_memory_or_a_slab(task):
    told = task()
    _, batched = executors(told)
    values = Played(told).on(batched)
    for tensor in numbers(values):
        assert not tensor.requires_grad
        own = tensor.numel() * tensor.element_size()
        assert tensor.untyped_storage().nbytes() in (own, Slab.NUM_BYTES)


def test_the_same_bytes_come_twice_and_no_global_state_is_touched(task):
    told = task("llama", "float32")
    before = torch.random.get_rng_state()
    first, second = (list(numbers(Played(told).on(executors(told, 3)[1]))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("dtype", "use_dora", "most"), [("bfloat16", False, 0.1), ("float64", True, 1e-12)])
def test_bfloat16_and_magnitudes_go_together_too(task, dtype, use_dora, most):
    told = task(dtype=dtype, use_dora=use_dora)
    sequential, batched = executors(told)
    played = Played(told)
    assert furthest(played.on(sequential), played.on(batched)) <= most
    assert batched.fallback_reason is None


def test_a_model_that_looks_at_its_numbers_is_computed_one_by_one(task, monkeypatch, caplog):
    run_block = GPT2Body.run_block

    def nosy(self, block, hidden, mask, places=None):
        return run_block(self, block, hidden if bool(hidden.sum() > -1e9) else -hidden, mask, places)

    monkeypatch.setattr(GPT2Body, "run_block", nosy)
    told = task()
    sequential, batched = executors(told)
    played = Played(told)
    with caplog.at_level(logging.WARNING, logger="cosim.graph.batched"):
        assert furthest(played.on(sequential), played.on(batched)) <= 1e-12
    assert batched.fallback_reason is not None
    assert batched.fallback_reason.startswith("client_forward: RuntimeError: vmap")
    assert [record.args[0] for record in caplog.records] == [batched.fallback_reason]


def test_where_only_the_head_cannot_be_stacked_the_clients_still_go_together(task, monkeypatch):
    scores = GPT2Body.scores

    def nosy(self, rows):
        return scores(self, rows if bool(rows.sum() > -1e9) else -rows)

    monkeypatch.setattr(GPT2Body, "scores", nosy)
    told = task()
    sequential, batched = executors(told)
    played = Played(told)
    assert furthest(played.on(sequential), played.on(batched)) <= 1e-12
    assert batched.fallback_reason is not None
    assert batched.fallback_reason.startswith("server_step: RuntimeError: vmap")


def test_dropout_is_drawn_client_by_client(task, caplog):
    told = task(dropout=0.3)
    sequential, batched = executors(told)
    played = Played(told)
    with caplog.at_level(logging.WARNING, logger="cosim.graph.batched"):
        assert furthest(played.on(sequential), played.on(batched)) <= 1e-12
    assert batched.fallback_reason == "LoRA dropout is drawn from a stream of each client's own"
    assert len(caplog.records) == 1


def test_a_fault_of_the_training_itself_is_told(task, monkeypatch):
    def broken(self, *given):
        raise ZeroDivisionError("no rate")

    monkeypatch.setattr(Sgd, "update", broken)
    told = task()
    for executor in executors(told):
        with pytest.raises(ZeroDivisionError, match="no rate"):
            Played(told).on(executor)


def test_a_group_of_none_is_refused():
    with pytest.raises(ValueError, match="at least one node, not 0"):
        Batched(lambda: pytest.fail("nothing is computed"), 0)


def test_a_group_goes_there_and_back_before_the_next_begins(task):
    told = task()
    works = [
        work
        for one in Played(told).split_steps[:NUM_CLIENTS]
        for work in (one.forward, one.server, one.backward)
    ]
    works = sorted(works, key=lambda work: work.order)
    found = [(group[0].operation.name, len(group)) for group in plan(works, 2)]
    there_and_back = ["client_forward", "server_step", "client_backward"]
    assert found == [(operation, size) for size in (2, 2, 1) for operation in there_and_back]


def test_no_work_comes_before_its_inputs_or_twice(task):
    told = task()
    sequential, _ = executors(told)
    works = sequential.uncomputed(Played(told).outputs)
    for max_group in (1, 2, 3, 64):
        groups = plan(works, max_group)
        done = set()
        for group in groups:
            assert len(group) <= max_group
            assert len({group_of(work) for work in group}) == 1
            assert all(one.node in done for work in group for one in work.inputs)
            done.update(group)
        assert sorted(work.order for group in groups for work in group) == [work.order for work in works]


def test_works_that_differ_in_what_they_are_told_stay_apart():
    works, batch = Graph(), {"rows": [1, 2]}
    start_ = works.add(start).ref("adapter")
    one = works.add(client_forward, [start_], batch=batch, cut_layer=1, dropout=None)
    for changes in ({"cut_layer": 2}, {"batch": {"rows": [1]}}):
        other = works.add(
            client_forward, [start_], **{"batch": batch, "cut_layer": 1, "dropout": None, **changes}
        )
        assert group_of(other) != group_of(one)
    assert group_of(works.add(client_forward, [start_], batch=batch, cut_layer=1, dropout=7)) is None


def test_the_executor_moves_the_keys_and_the_plain_one_leaves_them_alone(task):
    keys = {}
    for name, training in {
        "sequential": {},
        "unused": {"max_group": 3},
        "batched": {"executor": "batched"},
        "three": {"executor": "batched", "max_group": 3},
    }.items():
        keys[name] = Training(task(**training), 1, RANK).start("client").adapter.node.key
    assert keys["sequential"] == keys["unused"]
    assert len(set(keys.values())) == 3


def test_the_larger_a_mini_batch_the_fewer_go_together(task):
    small = task(executor="batched")
    sizes = [
        replace(small, training=small.training.model_copy(update={"batch_size": size})).max_group
        for size in (1, 4, 16, 10**6)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == NUM_CLIENTS  # more slots than clients would be idle
    assert sizes[-1] == 1


def test_many_clients_are_dealt_evenly_into_the_fewest_groups(task):
    some = task(executor="batched")
    for num_clients, slots in ((64, 64), (65, 33), (200, 50)):
        crowd = replace(some, shares=some.shares[:1] * num_clients)
        small = crowd.training.model_copy(update={"batch_size": 1})
        assert replace(crowd, training=small).max_group == slots


@pytest.mark.parametrize("family", FAMILIES)
def test_no_value_hangs_on_who_shares_a_call_or_on_the_slot(task, family):
    """Any clients, in any order, in any groups: what a deadline or a part in the store leaves to compute."""
    told = task(family, "float32", executor="batched", max_group=3)
    training, chance = Training(told, 1, RANK), stream(5, "groupings", family).generator()
    clients, server = [training.start("client")] * NUM_CLIENTS, training.start("server")
    before = make_executor(told, RANK)
    split_steps = [split_step(training, client, side, server, 0) for client, side in enumerate(clients)]
    sides = [server_update(training, server, split_steps, 0), *(one.after for one in split_steps)]
    before.materialise(server_and(sides[0], sides[1:]), ())
    server, *clients = sides
    split_steps = [split_step(training, client, side, server, 1) for client, side in enumerate(clients)]
    read = {
        client: [one.loss, one.server.ref("gradient"), one.server.ref("adapter_gradient"), one.after.adapter]
        for client, one in enumerate(split_steps)
    }
    first = before.materialise((), [output for outputs in read.values() for output in outputs])
    expected = {client: first[4 * client : 4 * client + 4] for client in read}
    for _ in range(12):
        some = chance.permutation(NUM_CLIENTS)[: chance.integers(1, NUM_CLIENTS + 1)].tolist()
        while some:
            group, some = some[: (cut := int(chance.integers(1, 5)))], some[cut:]
            found = before.materialise((), [output for client in group for output in read[client]])
            for place, client in enumerate(group):
                pairs = zip(numbers(found[4 * place : 4 * place + 4]), numbers(expected[client]), strict=True)
                assert all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.slow
def test_no_value_hangs_on_the_slot_on_a_processor_with_avx2():
    """MKL has kernels there whose sums depend on where a matrix begins, unless it is asked for others."""
    which = f"{__file__}::test_no_value_hangs_on_who_shares_a_call_or_on_the_slot[bert]"
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", which],
        env={**environment, "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_average_of_kept_and_of_fresh_values_has_the_same_bytes(task):
    told = task(dtype="float32", executor="batched", optimizer=AdamW())
    training, executor = Training(told, 1, RANK), make_executor(told, RANK)
    client, server = training.start("client"), training.start("server")
    split_steps = [split_step(training, number, client, server, 0) for number in range(NUM_CLIENTS)]
    update = server_update(training, server, split_steps, 0)
    average = training.mean({one.client: one.after.adapter for one in split_steps}).ref("adapter")
    fresh = executor.materialise((), [average, update.adapter])
    for several in (split_steps[1:3], split_steps):
        parts = [one.after.adapter for one in several] + [
            one.server.ref("adapter_gradient") for one in several
        ]
        executor.materialise(parts, ())
        again = executor.materialise((), [average, update.adapter])
        assert all(torch.equal(a, b) for a, b in zip(numbers(fresh), numbers(again), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_computes_clients_together_the_same_way_every_time(task, family, dtype):
    told = task(family, dtype, device="cuda")
    sequential, batched = executors(told)
    played = Played(told)
    first = played.on(batched)
    assert batched.fallback_reason is None
    assert furthest(played.on(sequential), first) <= CLOSE.get(dtype, 0.1)
    again = Played(told).on(executors(told)[1])
    assert all(torch.equal(a, b) for a, b in zip(numbers(first), numbers(again), strict=True))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"training.batch_size": 1}, "batched"),
        ({"training.batch_size": 32}, "sequential"),  # 32 x 48 x 64 numbers
        ({"training.batch_size": 1, "clients.count": 1}, "sequential"),
        ({"training.batch_size": 1, "training.workers": 2}, "sequential"),
        ({"training.batch_size": 1, "lora.dropout": 0.1}, "sequential"),
    ],
)
def test_one_call_is_chosen_for_mini_batches_too_small_for_the_device(tiny_scenario, changes, chosen):
    settings = {"training.executor": "auto", "data.source.num_train": 200}
    made = prepare(tiny_scenario(settings | changes)).task
    assert made.training.executor == chosen
    asked = prepare(tiny_scenario(settings | changes | {"training.executor": "sequential"})).task
    assert (made.executor_settings == asked.executor_settings) == (chosen == "sequential")
