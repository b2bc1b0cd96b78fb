"""Mean of the factors."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import masked_mean, weighted_sum


class FedAvg(Aggregator):
    """A and B are averaged apart, each weighted by data: ``(sum p_k B_k)(sum p_k A_k)``.

    That is not the mean of the products; what is missing is the covariance of
    the factors over the clients. Where a codec says what was not sent, the mean
    of each number is over its senders, and a number nobody sent stays.

    Source
    ------
    H. B. McMahan et al., "Communication-efficient learning of deep networks from
    decentralized data", AISTATS 2017; on LoRA factors: J. Zhang et al., "Towards
    building the federated GPT: federated instruction tuning", ICASSP 2024.
    """

    kind: Literal["fedavg"] = "fedavg"
    needs_factors: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = True

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough; with masks it is one of weights too."""
        return "linear"

    @property
    def is_plain(self) -> bool:
        """All start from the mean."""
        return True

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of each factor."""
        if server.masks is not None:
            return Average(masked_mean(uploads, weights, server.masks, server.adapter), {})
        return Average(weighted_sum(uploads, weights), {})


FEDAVG = FedAvg.default()
"""What averages where nothing else is said."""
