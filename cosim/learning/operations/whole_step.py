"""One mini-batch through the uncut model, and the optimiser's step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cosim.graph.node import Node
from cosim.graph.operation import Fields, operation
from cosim.learning.local_rule import LocalRule
from cosim.learning.operations.split_step import by_shape
from cosim.learning.regularizer import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter
    from cosim.learning.stacks import StackedLearner


@operation("whole_gradient", group=by_shape, passing=("adapter_gradient",))
def whole_gradient(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", residual: "Adapter | None" = None
) -> Fields:
    """Return the mean loss of a mini-batch, nats, and its gradient by what is trained."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss, trained_of

    leaves = leaves_of(adapter, params.get("frozen"))
    prefix = learner.prefix(params, learner.model.shape.num_layers)
    outputs = learner.model.whole_outputs(leaves, learner.batch(params), params["dropout"], prefix, residual)
    loss, trained = mean_loss(outputs), trained_of(leaves)
    gradients = torch.autograd.grad(loss, list(trained.values()))
    return {"loss": loss.item(), "adapter_gradient": dict(zip(trained, gradients, strict=True))}


@whole_gradient.together
def whole_gradients(
    learner: "StackedLearner", nodes: Sequence[Node], adapters: Sequence[Any], residuals: Sequence[Any] = ()
) -> list[Fields]:
    """Return losses and gradients of several clients' mini-batches from one call."""
    from cosim.learning.stacks import shared, stacked

    hidden, first_block = learner.begin(nodes, learner.model.shape.num_layers)
    return learner.losses_and_gradients(nodes, stacked(adapters), hidden, first_block, {}, shared(residuals))


@operation("update", state=("adapter", "optimizer"))
def update(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    optimizer: "dict[str, Tensor]",
    *given: "Adapter",
) -> Fields:
    """Return adapter and optimiser after a step along the weighted mean of some gradients.

    Behind the gradients is given what the local rule knows, by ``params["given"]``.
    """
    from cosim.learning.aggregator.sums import mean_of_given

    count = len(params["weights"])
    gradient = mean_of_given(given[:count], params["weights"])
    if "regularizer" in params:
        regularizer: Regularizer = learner.made(Regularizer, params["regularizer"])
        gradient = regularizer.added(adapter, gradient)
    if "rule" in params:
        rule: LocalRule = learner.made(LocalRule, params["rule"])
        known = {"common": {}, "own": {}, **dict(zip(params["given"], given[count:], strict=True))}
        gradient = rule.corrected(adapter, gradient, **known)
    return learner.step(params, adapter, optimizer, gradient)
