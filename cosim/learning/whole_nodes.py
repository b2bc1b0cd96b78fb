"""The nodes of a model that is whole: local steps of one client, and steps on the mini-batches of all."""

from collections.abc import Sequence

from cosim.graph.node import Node, Ref
from cosim.learning.operations.by_example import whole_gradient_by_example
from cosim.learning.operations.pruning import narrow_gradient
from cosim.learning.operations.whole_step import whole_gradient
from cosim.learning.regularizer import Regularizer
from cosim.learning.train_state import Guidance, LocalRound, LocalStep, TrainState
from cosim.learning.training import Training


def local_round(
    training: Training,
    client: int,
    whole: TrainState,
    steps: Sequence[int],
    regularizer: Regularizer | None = None,
    guidance: Guidance | None = None,
) -> LocalRound:
    """Return the nodes of one client's mini-batches; ``steps`` count from 0 over the whole run."""
    done = []
    for step in steps:
        one = _whole_gradient(training, client, whole, step)
        whole = training.update(whole, [one.ref("adapter_gradient")], [client], step, regularizer, guidance)
        done.append(LocalStep(whole.adapter.node, one.ref("loss")))
    return LocalRound(client, tuple(done), whole)


def whole_step(training: Training, whole: TrainState, step: int) -> tuple[TrainState, list[Ref]]:
    """Return the uncut model's side after a step on the clients' mini-batches, and their losses."""
    clients = range(training.task.num_clients)
    gradients = [_whole_gradient(training, client, whole, step) for client in clients]
    side = training.update(whole, [one.ref("adapter_gradient") for one in gradients], clients, step)
    return side, [one.ref("loss") for one in gradients]


def _whole_gradient(training: Training, client: int, side: TrainState, step: int) -> Node:
    one = whole_gradient if training.is_mean else whole_gradient_by_example
    return training.graph.add(
        one if side.units is None else narrow_gradient,
        side.model,
        batch=training.batch(client, step),
        dropout=training.dropout(client, step),
        **training.taken(client, step, "whole"),
        **side.params,
    )
