"""A frozen, B averaged."""

from collections.abc import Sequence
from typing import Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.shape import Factor

_B: frozenset[Factor] = frozenset({"B"})


class Ffa(Aggregator):
    """A stays as it was drawn, the same for all; only B is trained and sent.

    ``sum p_k B_k A`` is then exactly what the average means, and the
    covariance of the factors is zero.

    Source
    ------
    Y. Sun, Z. Li, Y. Li, B. Ding, "Improving LoRA in privacy-preserving federated
    learning" (FFA-LoRA), ICLR 2024, arXiv 2403.12313.
    """

    kind: Literal["ffa"] = "ffa"

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough."""
        return "linear"

    def trained(self, round_: int) -> frozenset[Factor]:
        """B alone."""
        return _B

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of B beside the A of all."""
        return Average(server.adapter | weighted_sum(uploads, weights), {})
