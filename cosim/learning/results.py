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
    share = {} if client is None else {"rows": list(training.task.held_out[client])}
    return training.graph.add(
        operations.evaluate,
        _joined(adapters, residual),
        data=training.task.tokens.key,
        batch_size=training.task.training.evaluation_batch_size,
        **_has(residual),
        **share,
    )


def export(training: Training, *adapters: Ref, residual: Ref | None = None) -> Ref:
    """Return the files of what was trained; arguments as for :func:`evaluate`."""
    node = training.graph.add(
        operations.export,
        _joined(adapters, residual),
        base=training.task.model.base.name_or_path,
        **({"labels": list(training.task.labels)} if training.task.labels else {}),
        **({} if training.task.trainable.is_added else {"tokenizer": training.task.tokens.tokenizer.key}),
        **_has(residual),
    )
    return node.ref("files")


def _joined(adapters: Sequence[Ref], residual: Ref | None) -> tuple[Ref, ...]:
    return (*adapters, *(() if residual is None else (residual,)))


def _has(residual: Ref | None) -> dict[str, bool]:
    """Return the parameter of a node whose last input is what is merged into the base."""
    return {} if residual is None else {"residual": True}
