"""How good a model is on the held-out examples, and its files."""

from collections.abc import Mapping, Sequence
from math import exp, inf
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter

_MOST_LOSS = 709.0  # e to a little more is beyond floats


@operation("evaluate", may_overflow=("perplexity",))
def evaluate(learner: "Learner", params: Mapping[str, Any], *adapters: "Adapter") -> Fields:
    """Return mean loss over the held-out targets, nats, its perplexity, and the share of targets hit."""
    import torch

    whole, residual = _with_residual(params, adapters)
    loss_sum, num_targets, num_correct = 0.0, 0, 0
    with torch.no_grad():
        for batch, prefix in learner.held_out(params["batch_size"], params.get("rows")):
            outputs = learner.model.whole_outputs(whole, batch, None, prefix, residual)
            loss_sum += float(outputs.loss_sum.double().sum())
            num_targets += int(outputs.num_targets.sum())
            num_correct += int(outputs.num_correct.sum())
    return _evaluation(loss_sum / num_targets, num_correct / num_targets)


@operation("mean_evaluation", may_overflow=("perplexity",))
def mean_evaluation(learner: "Learner", params: Mapping[str, Any], *figures: float) -> Fields:
    """Return the weighted mean over models, given loss and accuracy of each."""
    losses, accuracies = (
        [weight * figure for weight, figure in zip(params["weights"], figures[first::2], strict=True)]
        for first in range(2)
    )
    return _evaluation(sum(losses), sum(accuracies))


@operation("export")
def export(learner: "Learner", params: Mapping[str, Any], *adapters: "Adapter") -> Fields:
    """Return the files of what was trained, as its ecosystem has them, by name."""
    labels = params.get("labels", ())
    return {"files": learner.model.adapter_files(*_with_residual(params, adapters), labels)}


def _with_residual(
    params: Mapping[str, Any], adapters: "Sequence[Adapter]"
) -> "tuple[Adapter, Adapter | None]":
    """Return one adapter from its parts, and what is merged into the base where it comes last."""
    parts, residual = (adapters[:-1], adapters[-1]) if params.get("residual") else (adapters, None)
    return {name: tensor for part in parts for name, tensor in part.items()}, residual


def _evaluation(loss: float, accuracy: float) -> Fields:
    return {"loss": loss, "perplexity": inf if loss > _MOST_LOSS else exp(loss), "accuracy": accuracy}
