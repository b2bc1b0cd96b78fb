"""A shared, B everybody's own."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.shape import Factor

_A: frozenset[Factor] = frozenset({"A"})


class FedSa(Aggregator):
    """Both factors are trained; A is sent and averaged, B never leaves its client.

    Every client then has a model of its own, from the common A and its B. What
    is evaluated is the mean of their losses and hits, weighted by data, and
    what is saved in the end is the mean of their models, which no device holds.

    Source
    ------
    P. Guo et al., "Selective aggregation for low-rank adaptation in federated
    learning" (FedSA-LoRA), ICLR 2025, arXiv 2410.01463. It evaluates each client
    on data of its own; here all are held against the same held-out examples.
    """

    kind: Literal["fedsa"] = "fedsa"
    is_personal: ClassVar[bool] = True

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough."""
        return "linear"

    def sent(self, round_: int) -> frozenset[Factor]:
        """Return A alone."""
        return _A

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of A; B is as it was drawn, since the server hears of no other."""
        return Average(server.adapter | weighted_sum(uploads, weights), {})
