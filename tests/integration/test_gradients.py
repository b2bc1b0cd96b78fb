"""Gradients of examples told apart: without a limit the mean, with one no example counts for more than it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cosim.errors import ScenarioError
from cosim.graph.executor import Sequential
from cosim.learning import example_stacks
from cosim.learning.execution import load_model
from cosim.learning.learner import Learner
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare

APART = {"training.gradients": {"kind": "per_example_clipped"}}
SCHEMES = {
    "whole": {"scheme.kind": "federated"},
    "centralized": {"scheme.kind": "centralized"},
    "split": {},
    "full": {"scheme.kind": "federated", "trainable": {"kind": "full"}},
    "frozen": {"lora.blocks": [3]},
}


@pytest.fixture(scope="module")
def losses(tiny_scenario, tmp_path_factory):
    def found(changes):
        scenario = tiny_scenario({"model.dtype": "float64", "training.batch_size": 3, **changes})
        record = Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run"))
        table = record.metrics.to_pylist()
        return [one["value"] for one in table if one["name"] in ("eval_loss", "train_loss")]

    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_limit_it_is_the_mean(scheme, losses):
    apart = {**APART, "training.gradients.max_norm": 1e9, **SCHEMES[scheme]}
    assert losses(apart) == pytest.approx(losses(SCHEMES[scheme]), rel=1e-10)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_pass_over_copies_gives_the_gradients_of_one_pass_for_each_example(scheme, losses, monkeypatch):
    clipped = {**APART, "training.gradients.max_norm": 0.05, **SCHEMES[scheme]}
    together = losses(clipped)
    monkeypatch.setattr(example_stacks, "can_stack", lambda params, adapter: False)
    assert together == pytest.approx(losses(clipped), rel=1e-12)


@pytest.mark.parametrize("scheme", ["whole", "split"])
def test_a_limit_changes_what_is_learned(scheme, losses):
    clipped = {**APART, "training.gradients.max_norm": 1e-2, **SCHEMES[scheme]}
    assert losses(clipped)[-1] != pytest.approx(losses(SCHEMES[scheme])[-1], rel=1e-9)


def test_each_examples_gradient_is_clipped_by_itself_on_either_side_of_a_cut(tiny_scenario):
    """Against one backward pass for each example, clipped and added up here."""
    limit, changes = 0.3, {"model.dtype": "float64", "training.batch_size": 4}
    sgd = {"kind": "sgd", "learning_rate": 1.0}
    task = prepare(
        tiny_scenario({**changes, **APART, "training.gradients.max_norm": limit, "training.optimizer": sgd})
    ).task
    training = Training(task, 1, 4)
    executor = Sequential(lambda: learner_of(task))
    mine, server = training.start("client"), training.start("server")
    exchange = split_step(training, 0, mine, server, 0)
    after = server_update(training, server, [exchange], 0)
    read = (mine.adapter, server.adapter, exchange.after.adapter, after.adapter)
    before, behind, mine_after, server_after = executor.materialise(read, read)

    learner = learner_of(task)
    batch = learner.batch(exchange.server.params)
    leaves = {name: one.clone().requires_grad_() for name, one in (before | behind).items()}
    outputs = learner.model.whole_outputs(leaves, batch, None)
    moved = {name: torch.zeros_like(one) for name, one in leaves.items()}
    for loss, count in zip(outputs.loss_sum, outputs.num_targets, strict=True):
        found = torch.autograd.grad(loss / count, list(leaves.values()), retain_graph=True)
        gradient = dict(zip(leaves, found, strict=True))
        for side in (before, behind):
            norm = sum(float(gradient[name].square().sum()) for name in side) ** 0.5
            assert norm > limit or side is before
            for name in side:
                share = int(count) / int(outputs.num_targets.sum())
                moved[name] += share * min(1.0, limit / norm) * gradient[name]
    for name, one in (mine_after | server_after).items():
        torch.testing.assert_close((before | behind)[name] - one, moved[name], rtol=1e-9, atol=1e-12)


def test_noise_has_its_variance_and_each_mini_batch_its_own(tiny_scenario):
    """Against the same mini-batches, of one example each, so that all count alike, without noise."""
    changes = {"training.batch_size": 1, "training.optimizer": {"kind": "sgd", "learning_rate": 1.0}}
    noisy = {"kind": "dp_sgd", "max_norm": 0.3, "noise_multiplier": 4.0}
    learnt = []
    for gradients in (noisy, {"kind": "per_example_clipped", "max_norm": 0.3}):
        task = prepare(tiny_scenario({**changes, "training.gradients": gradients, "lora.rank": 16})).task
        training, executor = (
            Training(task, 3, 16),
            Sequential(lambda task=task: Learner(task, load_model(task, 16))),
        )
        start = training.start("whole")
        ends = [
            local_round(training, client, start, [step]).after.adapter for client in (0, 1) for step in (0, 1)
        ]
        learnt.append(executor.materialise(ends, ends))
    drawn = np.stack(
        [
            np.concatenate([(one[name] - other[name]).numpy().ravel() for name in one])
            for one, other in zip(*learnt, strict=True)
        ]
    )
    num_numbers = drawn.shape[1]
    assert abs(drawn.std(axis=1) / 1.2 - 1.0).max() < 5.0 / np.sqrt(2.0 * num_numbers)
    assert abs(drawn.mean(axis=1)).max() < 5.0 * 1.2 / np.sqrt(num_numbers)
    correlation = np.corrcoef(drawn)[np.triu_indices(4, 1)]
    assert abs(correlation).max() < 5.0 / np.sqrt(num_numbers)


def test_with_noise_examples_count_alike(tiny_scenario):
    """Whatever their targets: a mini-batch of two moves as far as the mean of both alone."""
    settings = {"training.optimizer": {"kind": "sgd", "learning_rate": 1.0}, "model.dtype": "float64"}
    quiet = {"kind": "dp_sgd", "max_norm": 1e-3, "noise_multiplier": 1e-12}
    task = prepare(tiny_scenario({**settings, "training.gradients": quiet})).task
    learner = learner_of(task)
    training = Training(task, 3, 4)
    node = local_round(training, 0, training.start("whole"), [0]).steps[0].node
    gradient = node.inputs[2].node
    (begun,) = Sequential(lambda: learner).materialise((), [gradient.inputs[0]])
    rows = gradient.params["batch"]["rows"]
    parts = [learner.compute(replaced(gradient, [row]), [begun])["adapter_gradient"] for row in rows]
    both = learner.compute(gradient, [begun])["adapter_gradient"]
    for name, one in both.items():
        torch.testing.assert_close(one, (parts[0][name] + parts[1][name]) / 2, rtol=1e-6, atol=1e-12)


def replaced(node, rows):
    """Return a node on other rows of its data."""
    params = {**node.params, "batch": {**node.params["batch"].entries, "rows": rows}}
    return SimpleNamespace(operation=node.operation, params=params)


def learner_of(task):
    return Learner(task, load_model(task, 4))


def test_examples_are_not_told_apart_where_clients_are_computed_together(tiny_scenario):
    with pytest.raises(
        ScenarioError, match="training: gradients: 'per_example_clipped' computes examples one by one"
    ):
        tiny_scenario({**APART, "training.executor": "batched"})
