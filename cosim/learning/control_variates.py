"""The control variates of a training: each client's own, and the common one of the server."""

from collections.abc import Collection, Iterator, Sequence

from cosim.graph.node import Node, Ref
from cosim.learning.operations.control_variates import end_local_round, part_variates, with_variates
from cosim.learning.train_state import Guidance
from cosim.learning.training import Training


class ControlVariates:
    """What clients and server know beside adapters, where the local rule has variates.

    Attributes
    ----------
    common
        The server's, which all are sent; None while it is zero.
    own
        Each client's; None while it is zero.
    bundles
        What each client sends of adapter and variate at the end of this round.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.common: Ref | None = None
        self.own: list[Ref | None] = [None] * training.task.num_clients
        self.bundles: dict[int, Ref] = {}

    def known(self, client: int) -> dict[str, Ref]:
        """Return the variates that are not zero, by name."""
        given = {"common": self.common, "own": self.own[client]}
        return {name: ref for name, ref in given.items() if ref is not None}

    def end(self, client: int, guidance: Guidance, after: Ref, steps: Sequence[int]) -> None:
        """Let a client find its own variate, and what it sends of it, after these local steps."""
        optimizer, num_steps = self.training.task.training.optimizer, self.training.task.num_steps
        start, *variates = guidance.known.values()
        node = self.training.graph.add(
            end_local_round,
            (start, after, *variates),
            rule=self.training.params_of(guidance.rule),
            given=tuple(guidance.known)[1:],
            rates=sum(optimizer.rate(step, num_steps) for step in steps),
        )
        self.own[client], self.bundles[client] = node.ref("own"), node.ref("bundle")

    def beside(self, adapter: Ref) -> Ref:
        """Return an adapter with the common variate beside it."""
        common = () if self.common is None else (self.common,)
        return self.training.graph.add(with_variates, (adapter, *common)).ref("bundle")

    def take_in(self, mean: Node, senders: Collection[int]) -> Node:
        """Return the node of the mean adapter; the common variate has moved towards that of the senders."""
        weights = self.training.task.weights
        common = () if self.common is None else (self.common,)
        node = self.training.graph.add(
            part_variates,
            (mean.ref("adapter"), *common),
            share=sum(weights[client] for client in sorted(senders)),
        )
        self.common, self.bundles = node.ref("common"), {}
        return node

    def refs(self) -> Iterator[Ref]:
        """Return what later rounds build on, and what is on its way."""
        yield from (ref for ref in (self.common, *self.own, *self.bundles.values()) if ref is not None)
