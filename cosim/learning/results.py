"""The nodes of what a training leads to: how good it is, and the files of what was trained."""

from collections.abc import Sequence

from cosim.graph.node import Node, Ref
from cosim.learning.operations import evaluate as operations
from cosim.learning.training import Training


def evaluate(
    training: Training, *adapters: Ref, residual: Ref | None = None, client: int | None = None
) -> Node:
    """Return the evaluation on held-out examples.

    Parameters
    ----------
    adapters
        Both sides' or the whole's.
    residual
        What is merged into the base, where anything is.
    client
        Whose share of the held-out examples; without it all of them.
    """
    share = training.test_rows if client is None else {"rows": list(training.task.held_out[client])}
    return training.graph.add(
        operations.evaluate,
        _joined(adapters, residual),
        data=training.task.tokens.key,
        batch_size=training.task.training.evaluation_batch_size,
        **_has(residual),
        **share,
    )


def evaluate_each(
    training: Training, adapters: Sequence[Ref], *others: Ref, client: int | None = None
) -> Node:
    """Return the mean evaluation of the models that clients have of their own, weighted by data.

    Parameters
    ----------
    adapters
        Each client's.
    others
        What all models have in common.
    client
        Whose model on its own held-out examples; without it all of them on all examples.
    """
    if client is not None:
        return evaluate(training, adapters[client], *others, client=client)
    shares: dict[Ref, float] = {}  # of each model in the data: clients that never trained share one
    for adapter, weight in zip(adapters, training.weights(range(len(adapters))), strict=True):
        shares[adapter] = shares.get(adapter, 0.0) + weight
    if len(shares) == 1:
        return evaluate(training, adapters[0], *others)
    each = [evaluate(training, one, *others) for one in shares]
    figures = [one.ref(name) for one in each for name in ("loss", "accuracy")]
    return training.graph.add(operations.mean_evaluation, figures, weights=list(shares.values()))


def export(training: Training, *adapters: Ref, residual: Ref | None = None) -> Ref:
    """Return the files of what was trained; arguments as for :func:`evaluate`."""
    node = training.graph.add(
        operations.export,
        _joined(adapters, residual),
        base=training.task.model.base.name_or_path,
        **({"labels": list(training.task.labels)} if training.task.labels else {}),
        **({} if training.task.trainable.is_added else {"tokenizer": training.task.tokens.tokenizer_key}),
        **_has(residual),
    )
    return node.ref("files")


def _joined(adapters: Sequence[Ref], residual: Ref | None) -> tuple[Ref, ...]:
    return (*adapters, *(() if residual is None else (residual,)))


def _has(residual: Ref | None) -> dict[str, bool]:
    """Return the parameter of a node whose last input is what is merged into the base."""
    return {} if residual is None else {"residual": True}
