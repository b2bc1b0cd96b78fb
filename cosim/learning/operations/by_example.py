"""Mini-batches whose examples' gradients are kept apart: uncut, at the main server, on the way back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.gradients import Gradients
from cosim.learning.operations.split_step import client_forward
from cosim.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.data.batch import Batch
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


def _examples(
    learner: "Learner", params: Mapping[str, Any]
) -> "Iterator[tuple[slice, float, Batch, int | None]]":
    """Return each example's place, its share in the targets, itself as a batch, and its dropout's seed."""
    from cosim.learning.data.batch import Batch

    whole, seed = learner.batch(params), params["dropout"]
    for number, share in enumerate(_shares(whole)):
        one = slice(number, number + 1)
        batch = Batch(whole.input_ids[one], whole.attention_mask[one], whole.labels[one])
        own = None if seed is None else stream(seed, "example", number).torch_seed()
        yield one, share, batch, own


def _shares(batch: "Batch") -> list[float]:
    """Return each example's share in the targets of a mini-batch."""
    counts = batch.num_targets.tolist()
    total = max(sum(counts), 1)
    return [count / total for count in counts]


def _weighted(losses: "Tensor", shares: "Sequence[float]") -> float:
    found: list[float] = losses.tolist()
    return sum(share * loss for share, loss in zip(shares, found, strict=True))


class _Mean:
    """A weighted mean of gradients, added up one by one."""

    def __init__(self, learner: "Learner", params: Mapping[str, Any]) -> None:
        self._part: Gradients = learner.made(Gradients, params["gradients"])
        self._num_examples, self._seed = len(params["batch"]["rows"]), params.get("noise")
        self._total: Adapter = {}

    def add(self, gradient: "Adapter", share: float) -> None:
        share = 1.0 / self._num_examples if self._part.counts_alike else share
        for name, one in self._part.of_example(gradient).items():
            self._total[name] = self._total[name] + share * one if name in self._total else share * one

    def add_stack(self, gradients: "Adapter", shares: "Sequence[float]") -> None:
        """Add the gradients of all examples, stacked."""
        for number, share in enumerate(shares):
            self.add({name: stack[number] for name, stack in gradients.items()}, share)

    @property
    def taken(self) -> "Adapter":
        if self._seed is None:
            return self._total
        return self._part.finished(self._total, self._num_examples, stream(self._seed))


@operation("whole_gradient_by_example", passing=("adapter_gradient",))
def whole_gradient_by_example(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", residual: "Adapter | None" = None
) -> Fields:
    """Return the mean loss of a mini-batch, nats, and the mean of what is taken of each gradient."""
    import torch

    from cosim.learning import example_stacks
    from cosim.learning.learner import leaves_of, mean_loss, trained_of

    mean, model, frozen = _Mean(learner, params), learner.model, params.get("frozen")
    last_block = model.shape.num_layers
    prefix = learner.prefix(params, last_block)
    if model.shape.names.has_blocks_of_ours and example_stacks.can_stack(params, adapter):
        whole = learner.batch(params)
        leaves = example_stacks.stacked_leaves(adapter, len(whole.labels), frozen)
        hidden, first_block = model.begin(whole, last_block, prefix)
        hidden = example_stacks.run_blocks(model, leaves, hidden, whole, first_block, last_block, residual)
        losses, trained = example_stacks.mean_losses(model, leaves, hidden, whole), trained_of(leaves)
        found = torch.autograd.grad(losses.sum(), list(trained.values()))
        mean.add_stack(dict(zip(trained, found, strict=True)), _shares(whole))
        return {"loss": _weighted(losses, _shares(whole)), "adapter_gradient": mean.taken}
    loss_sum = 0.0
    for one, share, batch, seed in _examples(learner, params):
        leaves = leaves_of(adapter, frozen)
        known = None if prefix is None else prefix[one]
        loss = mean_loss(model.whole_outputs(leaves, batch, seed, known, residual))
        trained = trained_of(leaves)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        mean.add(dict(zip(trained, gradients, strict=True)), share)
        loss_sum += share * loss.item()
    return {"loss": loss_sum, "adapter_gradient": mean.taken}


@operation("client_forward_by_example")
def client_forward_by_example(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", residual: "Adapter | None" = None
) -> Fields:
    """Return the activations at the cut, and the leaves of their graph: a copy for each example if it can."""
    from cosim.learning import example_stacks

    if not (learner.model.shape.names.has_blocks_of_ours and example_stacks.can_stack(params, adapter)):
        return client_forward.body(learner, params, adapter, residual)
    batch, cut_layer, model = learner.batch(params), params["cut_layer"], learner.model
    leaves = example_stacks.stacked_leaves(adapter, len(batch.labels), params.get("frozen"))
    hidden, first_block = model.begin(batch, cut_layer, learner.prefix(params, cut_layer))
    activations = example_stacks.run_blocks(model, leaves, hidden, batch, first_block, cut_layer, residual)
    return {"activations": learner.sent(activations, batch), "leaves": leaves}


@operation("server_step_by_example", state=("adapter_gradient",))
def server_step_by_example(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", activations: "Tensor"
) -> Fields:
    """Return loss, the server's mean of what is taken, and where the client trains the activations' gradient.

    The latter is that of the mean loss: its rows are the examples', times their shares.
    """
    import torch

    from cosim.learning import example_stacks
    from cosim.learning.learner import leaves_of, mean_loss

    cut_layer, mean, model = params["cut_layer"], _Mean(learner, params), learner.model
    behind, whole, shares = (
        learner.behind_cut(adapter, cut_layer),
        learner.batch(params),
        _shares(learner.batch(params)),
    )
    arrived = activations.detach().requires_grad_()
    within = arrived[:, : whole.input_ids.shape[1]]
    if example_stacks.can_stack(params, behind):
        leaves = example_stacks.stacked_leaves(behind, len(whole.labels))
        hidden, last_block = model.placed(within), model.shape.num_layers
        hidden = example_stacks.run_blocks(model, leaves, hidden, whole, cut_layer + 1, last_block)
        losses = example_stacks.mean_losses(model, leaves, hidden, whole)
        each, *found = torch.autograd.grad(losses.sum(), [arrived, *leaves.values()])
        mean.add_stack(dict(zip(leaves, found, strict=True)), shares)
        rows, loss_sum = (
            [share * row[None] for share, row in zip(shares, each, strict=True)],
            _weighted(losses, shares),
        )
    else:
        rows, loss_sum = [], 0.0
        for one, share, batch, seed in _examples(learner, params):
            leaves = leaves_of(behind)
            loss = mean_loss(model.server_outputs(leaves, within[one], batch, cut_layer, seed))
            each, *found = torch.autograd.grad(loss, [arrived, *leaves.values()])
            mean.add(dict(zip(leaves, found, strict=True)), share)
            rows.append(share * each[one])
            loss_sum += share * loss.item()
    gradient = {"gradient": torch.cat(rows)} if learner.client_trains(cut_layer) else {}
    return {"loss": loss_sum, **gradient, "adapter_gradient": learner.keep(mean.taken)}


@operation("client_backward_by_example", goes_back_through="activations", state=("adapter", "optimizer"))
def client_backward_by_example(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    optimizer: "dict[str, Tensor]",
    activations: "Tensor",
    leaves: "Adapter",
    gradient: "Tensor",
) -> Fields:
    """Return the client's adapter and optimiser after its step along the mean of what is taken."""
    import torch

    from cosim.learning.learner import gradients_along, trained_of

    mean, trained = _Mean(learner, params), trained_of(leaves)
    shares = _shares(learner.batch(params))
    own = torch.stack(
        [row / share if share else 0.0 * row for row, share in zip(gradient, shares, strict=True)]
    )
    if any(leaf.dim() > adapter[name].dim() for name, leaf in trained.items()):  # a copy for each example
        stacks = gradients_along(activations, own, list(trained.values()))
        mean.add_stack(dict(zip(trained, stacks, strict=True)), shares)
        return learner.step(params, adapter, optimizer, mean.taken)
    for number, share in enumerate(shares):
        alone = torch.zeros_like(own)
        alone[number] = own[number]
        found = gradients_along(activations, alone, list(trained.values()), retain_graph=True)
        mean.add(dict(zip(trained, found, strict=True)), share)
    return learner.step(params, adapter, optimizer, mean.taken)
