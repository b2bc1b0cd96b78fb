"""One mini-batch behind a cut: client forward, server forward and backward, client backward."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cosim.graph.node import Node
from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter
    from cosim.learning.stacks import StackedLearner


def by_shape(node: Node) -> Hashable | None:
    """Return what passes of one group have in common; None with dropout, drawn for each client apart."""
    params = node.params
    if params["dropout"] is not None:
        return None
    trained = params.get("frozen"), params.get("rank"), len(node.inputs)
    return params.get("cut_layer"), len(params["batch"]["rows"]), *trained


def by_optimizer_step(node: Node) -> Hashable:
    """Return what steps of one group have in common."""
    params = node.params
    return repr(params["optimizer"]), params["step"], params["num_steps"]


@operation("client_forward", group=by_shape)
def client_forward(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter | None" = None,
    residual: "Adapter | None" = None,
) -> Fields:
    """Return the activations at the cut, and the leaves their graph begins at."""
    from cosim.learning.learner import leaves_of

    leaves, cut_layer = leaves_of(adapter or {}, params.get("frozen")), params["cut_layer"]
    batch, prefix = learner.batch(params), learner.prefix(params, cut_layer)
    activations = learner.model.client_forward(leaves, batch, cut_layer, params["dropout"], prefix, residual)
    return {"activations": learner.sent(activations, batch), "leaves": leaves}


@client_forward.together
def client_forwards(
    learner: "StackedLearner",
    nodes: Sequence[Node],
    adapters: Sequence[Any] = (),
    residuals: Sequence[Any] = (),
) -> list[Fields]:
    """Return the activations of several clients from one call."""
    from cosim.learning.learner import leaves_of
    from cosim.learning.stacks import rows, shared, stacked

    leaves = leaves_of(stacked(adapters), nodes[0].params.get("frozen")) if adapters else {}
    cut_layer, batch = nodes[0].params["cut_layer"], learner.joint_batch(nodes)
    hidden, first_block = learner.begin(nodes, cut_layer)
    activations = learner.blocks(leaves, hidden, batch, first_block, cut_layer, shared(residuals))
    sent = learner.sent(activations.flatten(0, 1), batch).view_as(activations)
    return rows(len(nodes), activations=sent, leaves=leaves)


@operation("server_step", group=by_shape, state=("adapter_gradient",))
def server_step(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", activations: "Tensor"
) -> Fields:
    """Return loss, the server's own gradient and, where the client trains, that of the activations."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss

    leaves = leaves_of(learner.behind_cut(adapter, params["cut_layer"]))
    arrived = activations.detach()
    wanted = {"gradient": arrived.requires_grad_()} if learner.client_trains(params["cut_layer"]) else {}
    batch = learner.batch(params)
    within = arrived[:, : batch.input_ids.shape[1]]
    outputs = learner.model.server_outputs(leaves, within, batch, params["cut_layer"], params["dropout"])
    loss = mean_loss(outputs)
    found = torch.autograd.grad(loss, [*wanted.values(), *leaves.values()])
    adapter_gradient = dict(zip(leaves, found[len(wanted) :], strict=True))
    return {
        "loss": loss.item(),
        **dict(zip(wanted, found, strict=False)),
        "adapter_gradient": learner.keep(adapter_gradient),
    }


@server_step.together
def server_steps(
    learner: "StackedLearner", nodes: Sequence[Node], adapters: Sequence[Any], activations: Sequence[Any]
) -> list[Fields]:
    """Return losses and gradients of several clients' mini-batches from one call."""
    from cosim.learning.stacks import stacked

    arrived, cut_layer = stacked(activations).detach(), nodes[0].params["cut_layer"]
    wanted = {"gradient": arrived.requires_grad_()} if learner.client_trains(cut_layer) else {}
    behind = learner.behind_cut(stacked(adapters), cut_layer)
    return learner.losses_and_gradients(nodes, behind, arrived, cut_layer + 1, wanted)


@operation(
    "client_backward",
    group=by_optimizer_step,
    goes_back_through="activations",
    state=("adapter", "optimizer"),
)
def client_backward(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    optimizer: "dict[str, Tensor]",
    activations: "Tensor",
    leaves: "Adapter",
    gradient: "Tensor",
) -> Fields:
    """Return the client's adapter and optimiser after its step."""
    from cosim.learning.learner import gradients_along, trained_of

    trained = trained_of(leaves)
    gradients = gradients_along(activations, gradient, list(trained.values()))
    return learner.step(params, adapter, optimizer, dict(zip(trained, gradients, strict=True)))


@client_backward.together
def client_backwards(
    learner: "StackedLearner",
    nodes: Sequence[Node],
    adapters: Sequence[Any],
    optimizers: Sequence[Any],
    activations: Sequence[Any],
    leaves: Sequence[Any],
    gradients: Sequence[Any],
) -> list[Fields]:
    """Return the steps of several clients, their common graph walked once."""
    from cosim.learning.stacks import gradients_of, stacked

    found = gradients_of(activations, leaves, gradients)
    return learner.steps(nodes, stacked(adapters), stacked(optimizers), found)
