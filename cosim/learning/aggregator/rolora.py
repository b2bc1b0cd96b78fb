"""A and B in turn."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.shape import Factor


class RoLora(Aggregator):
    """Odd rounds train and send B, even rounds A; the other factor is the same for all, and frozen.

    Each average is exact, as one factor of every product is common. B comes
    first: it starts at zero, and A has no gradient before it has moved. An
    optimiser begins again with the factor it is given; its moments of two rounds
    ago belong to another point.

    Source
    ------
    S. Chen et al., "Robust federated finetuning of LLMs via alternating
    optimization of LoRA" (RoLoRA), arXiv 2502.01755.
    """

    kind: Literal["rolora"] = "rolora"
    keeps_moments: ClassVar[bool] = False
    period: ClassVar[int] = 2

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough."""
        return "linear"

    def trained(self, round_: int) -> frozenset[Factor]:
        """B in odd rounds, A in even ones."""
        return frozenset({"B"}) if round_ % 2 else frozenset({"A"})

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of the factor that was trained beside the other one of all."""
        return Average(server.adapter | weighted_sum(uploads, weights), {})
