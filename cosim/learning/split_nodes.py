"""The nodes of a model that is cut: a mini-batch there and back, and the main server's step."""

from collections.abc import Sequence

from cosim.graph.node import Ref
from cosim.learning.operations.by_example import (
    client_backward_by_example,
    client_forward_by_example,
    server_step_by_example,
)
from cosim.learning.operations.split_step import client_backward, client_forward, server_step
from cosim.learning.train_state import SplitStep, TrainState
from cosim.learning.training import Training


def split_step(
    training: Training,
    client: int,
    mine: TrainState,
    server: TrainState,
    step: int,
    memories: tuple[Ref | None, Ref | None] = (None, None),
) -> SplitStep:
    """Return the nodes of one mini-batch, there and back; ``step`` counts from 0 over the whole run.

    The server works on the activations it decodes, and sends back the
    gradient of the loss by those; the client goes back with what it decodes of
    it as if it were the gradient by its own activations. The derivative of the
    codecs, zero almost everywhere, is left out, as real systems do.

    Parameters
    ----------
    memories
        :attr:`SplitStep.memories` of this client's split step before.
    """
    codecs = training.task.codecs
    batch, cut_layer = training.batch(client, step), training.cuts[client]
    dropout = training.dropout(client, step)
    if training.trains(client):
        forward = training.graph.add(
            client_forward if training.is_mean else client_forward_by_example,
            mine.model,
            batch=batch,
            cut_layer=cut_layer,
            dropout=dropout,
            **mine.params,
        )
    else:  # the base alone decides, and the same mini-batch gives the same
        forward = training.graph.add(
            client_forward, (), batch=batch, cut_layer=cut_layer, dropout=None, base=training.base
        )
    activations = forward.ref("activations")
    upload = training.transmit(
        codecs.activation, activations, "main_uplink", client, step, memory=memories[0]
    )
    at_server = training.graph.add(
        server_step if training.is_mean else server_step_by_example,
        (server.adapter, upload.tensors),
        batch=batch,
        cut_layer=cut_layer,
        dropout=dropout,
        **training.taken(client, step, "server"),
    )
    if not training.trains(client):
        return SplitStep(client, mine, forward, upload, at_server, None, None)
    download = training.transmit(
        codecs.gradient, at_server.ref("gradient"), "main_downlink", client, step, memory=memories[1]
    )
    taken = training.taken(client, step, "client")
    examples = {"batch": batch, "dropout": None, **taken} if taken else {}
    backward = training.graph.add(
        client_backward if training.is_mean else client_backward_by_example,
        (
            mine.adapter,
            mine.optimizer,
            activations,
            forward.ref("leaves"),
            download.tensors,
        ),
        **training.optimizer_step(step),
        **examples,
    )
    return SplitStep(client, mine, forward, upload, at_server, download, backward)


def server_update(
    training: Training, server: TrainState, split_steps: Sequence[SplitStep], step: int
) -> TrainState:
    """Return the server's side after one step on the weighted sum of the clients' losses."""
    gradients = [one.server.ref("adapter_gradient") for one in split_steps]
    return training.update(server, gradients, [one.client for one in split_steps], step)
