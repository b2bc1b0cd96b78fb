"""Exact mean: factors averaged, what their product lacks merged into the base."""

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors, stack_or_dense
from cosim.learning.aggregator.sums import added, matrices_of, weighted_sum
from cosim.learning.shape import Linear


class FedEx(Aggregator):
    """Factors are averaged as by ``fedavg``; the residual ``s (sum p_k B_k A_k - B A)`` joins the base.

    The model after a round is then exactly the weighted mean of the clients'
    models. Everybody needs the residual too: it travels as the two stacked
    factors of ``sum_k p_k (B_k - B_K)(A_k - A)``, over all senders but the last
    and so of rank ``(K - 1) r``, or dense where that is smaller. Moments stay:
    the factors are those that were averaged.

    Source
    ------
    R. Singhal, K. Ponkshe, P. Vepakomma, "FedEx-LoRA: exact aggregation for
    federated parameter-efficient fine-tuning of foundation models", arXiv
    2410.09432; its clients weigh the same, ours by their data.
    """

    kind: Literal["fedex"] = "fedex"
    averages_products: ClassVar[bool] = True
    has_residual: ClassVar[bool] = True

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Products are of single clients."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of each factor, and the residual with this round's added."""
        mean = weighted_sum(uploads, weights)
        missing = {}
        for matrix in matrices_of(mean):
            last = uploads[-1][matrix.b_name]
            # of deviations, not of products: near each other, these would cancel
            terms = [
                weight * (one[matrix.b_name] - last) @ (one[matrix.a_name] - mean[matrix.a_name])
                for one, weight in zip(uploads, weights, strict=True)
            ]
            missing[matrix.a_name] = server.scaling * sum(terms[1:], terms[0])
        return Average(mean, added(server.residual, missing))

    def download_numbers(
        self, matrices: Collection[Linear], rank: int, sender_ranks: Sequence[int], round_: int
    ) -> int:
        """Return the numbers of the mean factors and of the residual."""
        stacked = sum(sender_ranks[:-1])
        residual = sum(stack_or_dense(one, stacked) for one in matrices)
        return super().download_numbers(matrices, rank, sender_ranks, round_) + residual
