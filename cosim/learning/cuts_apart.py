"""Clients that are cut at different blocks: who holds what, and how it becomes one adapter again.

The main server holds every block behind the smallest cut and computes each
client's mini-batch from that client's own cut on. A block in between is thus
trained by some clients themselves and by the server for the others.
"""

from collections.abc import Collection, Mapping, Sequence

from cosim.graph.node import Node, Ref
from cosim.learning.federated_state import FederatedState
from cosim.learning.operations.average import merge
from cosim.learning.operations.start import part
from cosim.learning.training import Training


class FederationApart(FederatedState):
    """A federation that averages every block over all clients, whichever side trained it for them.

    Where a client keeps a block, its own version counts with its share of the
    data; for all clients that do not, the main server's counts with theirs. The
    whole adapter goes on from there, so ``adapter`` is that of all blocks, and the
    main server starts the next round from its part of it too. Of the aggregators
    only the plain mean is known here.
    """

    def __init__(self, training: Training) -> None:
        super().__init__(training, "whole")
        starts = {cut: training.start("client", cut) for cut in sorted(set(training.cuts))}
        self.states = [starts[cut] for cut in training.cuts]
        self.starts = [one.adapter for one in self.states]
        self._met: tuple[Ref, Sequence[int]] | None = None

    def meet(self, server: Ref, clients: Sequence[int]) -> None:
        """Take in what the main server has at the end of a round, and which clients were in it."""
        self._met = server, clients

    @property
    def server_adapter(self) -> Ref:
        """What the main server starts a round from."""
        return self._part("server", min(self.training.cuts))

    def average(
        self,
        uploads: Mapping[int, Ref],
        round_: int,
        masks: Mapping[int, Ref] | None = None,
        senders: Collection[int] | None = None,
    ) -> Node:
        """Return the node that makes one adapter of what clients sent and the main server has."""
        if masks is not None:
            raise ValueError("what is sent in part is not put together with what the main server has")
        if self._met is None:
            raise ValueError("an average needs what the main server has: meet it first")
        (server, clients), self._met = self._met, None
        weights = dict(zip(clients, self.training.weights(clients), strict=True))
        node = self.training.graph.add(
            merge,
            [*uploads.values(), server],
            weights=[weights[client] for client in uploads],
            absent=sum(weight for client, weight in weights.items() if client not in uploads),
        )
        self.adapter = node.ref("adapter")
        return node

    def distribute_to_all(self, round_: int) -> None:
        """Let all clients and the main server start a round from their parts of the global adapter."""
        parts = {cut: self._part("client", cut) for cut in sorted(set(self.training.cuts))}
        self.states = [
            one._replace(adapter=parts[cut]) for one, cut in zip(self.states, self.training.cuts, strict=True)
        ]
        self.starts = [one.adapter for one in self.states]

    def evaluate(self, *others: Ref, client: int | None = None) -> Node:
        """Return the evaluation of the global adapter, which needs no others."""
        return super().evaluate(client=client)

    def export(self, *others: Ref) -> Ref:
        """Return the files of the global adapter, which needs no others."""
        return super().export()

    def _part(self, side: str, cut_layer: int) -> Ref:
        return self.training.graph.add(part, [self.adapter], part=side, cut_layer=cut_layer).ref("adapter")
