"""Mini-batches whose examples' gradients are kept apart: uncut, at the main server, on the way back."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.gradients import Gradients
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
    counts = whole.num_targets
    total = max(int(counts.sum()), 1)
    for number, count in enumerate(counts.tolist()):
        one = slice(number, number + 1)
        batch = Batch(whole.input_ids[one], whole.attention_mask[one], whole.labels[one])
        own = None if seed is None else stream(seed, "example", number).torch_seed()
        yield one, count / total, batch, own


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

    @property
    def taken(self) -> "Adapter":
        if self._seed is None:
            return self._total
        return self._part.finished(self._total, self._num_examples, stream(self._seed))


@operation("whole_gradient_by_example", state=("adapter_gradient",))
def whole_gradient_by_example(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", residual: "Adapter | None" = None
) -> Fields:
    """Return the mean loss of a mini-batch, nats, and the mean of what is taken of each gradient."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss, trained_of

    mean, loss_sum = _Mean(learner, params), 0.0
    prefix = learner.prefix(params, learner.model.shape.num_layers)
    for one, share, batch, seed in _examples(learner, params):
        leaves = leaves_of(adapter, params.get("frozen"))
        known = None if prefix is None else prefix[one]
        loss = mean_loss(learner.model.whole_outputs(leaves, batch, seed, known, residual))
        trained = trained_of(leaves)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        mean.add(dict(zip(trained, gradients, strict=True)), share)
        loss_sum += share * loss.item()
    return {"loss": loss_sum, "adapter_gradient": mean.taken}


@operation("server_step_by_example", state=("adapter_gradient",))
def server_step_by_example(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", activations: "Tensor"
) -> Fields:
    """Return loss, the server's mean of what is taken, and where the client trains the activations' gradient.

    The latter is that of the mean loss: its rows are the examples', times their shares.
    """
    import torch

    from cosim.learning.learner import leaves_of, mean_loss

    cut_layer, mean, rows, loss_sum = params["cut_layer"], _Mean(learner, params), [], 0.0
    for one, share, batch, seed in _examples(learner, params):
        leaves = leaves_of(learner.behind_cut(adapter, cut_layer))
        arrived = activations.detach()[one].requires_grad_()
        loss = mean_loss(learner.model.server_outputs(leaves, arrived, batch, cut_layer, seed))
        row, *found = torch.autograd.grad(loss, [arrived, *leaves.values()])
        mean.add(dict(zip(leaves, found, strict=True)), share)
        rows.append(share * row)
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

    from cosim.learning.learner import trained_of

    mean, trained = _Mean(learner, params), trained_of(leaves)
    for one, share, _, _ in _examples(learner, params):
        own = torch.zeros_like(gradient)
        own[one] = gradient[one] / share if share else 0.0
        found = torch.autograd.grad(activations, list(trained.values()), own, retain_graph=True)
        mean.add(dict(zip(trained, found, strict=True)), share)
    return learner.step(params, adapter, optimizer, mean.taken)
