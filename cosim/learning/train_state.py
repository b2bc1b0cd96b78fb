"""What the nodes of a training hand on: a side at one moment, a split step, a client's round by itself."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cosim.graph.node import Node, Ref
from cosim.learning.local_rule import LocalRule
from cosim.learning.payload import Transmission

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TrainState(NamedTuple):
    """What is trained on one side at one moment.

    Attributes
    ----------
    adapter, optimizer
        The adapter, and the optimiser's memory of what is trained of it.
    residual
        What is merged into the base, where anything is.
    params
        What passes of this side also get: ``frozen``, a factor that is
        not trained; ``rank``, where it is not that of the model.
    units
        The units of the model that remain, where some are left out.
    """

    adapter: Ref
    optimizer: Ref
    residual: Ref | None = None
    params: Mapping[str, Any] = _NOTHING
    units: Ref | None = None

    @property
    def model(self) -> tuple[Ref, ...]:
        """What a forward pass reads: the adapter, and what is merged into the base or remains of it."""
        return tuple(one for one in (self.adapter, self.residual, self.units) if one is not None)

    def stepped(self, node: Node) -> "TrainState":
        """Return the side after a node that took a step."""
        return TrainState(node.ref("adapter"), node.ref("optimizer"), self.residual, self.params, self.units)


class Guidance(NamedTuple):
    """What corrects the gradients of a client's round, and what it knows for that by name.

    ``start`` is what the round began from; ``common`` and ``own`` are control variates, once there are any.
    """

    rule: LocalRule
    known: Mapping[str, Ref]


class SplitStep(NamedTuple):
    """One mini-batch of one client, there and back.

    Attributes
    ----------
    mine
        The client's side before the step.
    forward, server, backward
        The three nodes: activations; loss, their gradient and the server's own
        gradient; the client's step, None where the client trains nothing.
    upload, download
        How the activations get to the server and, where the client trains, their gradient back.
    mine, after
        The client's side before and after the step.
    """

    client: int
    mine: TrainState
    forward: Node
    upload: Transmission
    server: Node
    download: Transmission | None
    backward: Node | None

    @property
    def memories(self) -> tuple[Ref | None, Ref | None]:
        """What the client holds back of its activations, and the server of this client's gradient."""
        return self.upload.memory, None if self.download is None else self.download.memory

    @property
    def loss(self) -> Ref:
        """Mean loss over the targets of the mini-batch, nats."""
        return self.server.ref("loss")

    @property
    def after(self) -> TrainState:
        """The client's side after its step."""
        return self.mine if self.backward is None else self.mine.stepped(self.backward)


class LocalStep(NamedTuple):
    """One mini-batch of one client through the whole model, and the step it leads to."""

    node: Node
    loss: Ref


class LocalRound(NamedTuple):
    """What one client learns in a round without hearing of anybody.

    Attributes
    ----------
    steps
        Its mini-batches, in their order.
    after
        Its side after them.
    """

    client: int
    steps: tuple[LocalStep, ...]
    after: TrainState
