"""Adapters of different ranks, filled up with zeros."""

from collections.abc import Sequence
from math import sqrt
from typing import Any, ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import (
    factor_of,
    matrices_of,
    padded,
    weighted_sum,
    without_factors,
)


class HetLora(Aggregator):
    """Factors of lower rank are filled up with zeros and averaged; each client gets its first pairs back.

    All products are scaled alike, by alpha over the rank of the model, so that
    a pair means the same on every client. Pairs of a few clients only are
    diluted by the zeros of the others: that is the method.

    Attributes
    ----------
    weighting
        ``norm`` weighs a client by the size of its adapter,
        ``sqrt(sum ||B_k A_k||^2)`` over all matrices, as its source does; ``data``
        by its examples. Where all adapters are zero, and for what is no factor, data decide.

    Source
    ------
    Y. J. Cho et al., "Heterogeneous LoRA for federated fine-tuning of on-device
    foundation models" (HetLoRA), EMNLP 2024, arXiv 2401.06432: zero padding and
    sparsity-weighted aggregation. Its clients may also give up ranks while they
    train (self-pruning); here a rank is a client's for good.
    """

    kind: Literal["hetlora"] = "hetlora"
    takes_ranks: ClassVar[bool] = True
    weighting: Literal["norm", "data"] = "norm"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"client_ranks": [2, 4, 1]},
        {"client_ranks": [2, 4, 1], "weighting": "data"},
    )

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Norms are of single clients; by data the sum of filled-up factors is enough."""
        return "individual" if self.weighting == "norm" else "linear"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of the filled-up factors."""
        whole = [padded(one, server.adapter) for one in uploads]
        by_data = [without_factors(one) for one in whole]
        factors = [{name: one[name] for name in one if factor_of(name)} for one in whole]
        mean = weighted_sum(factors, self._weights(uploads, weights))
        return Average(server.adapter | mean | weighted_sum(by_data, weights), {})

    def _weights(self, uploads: Sequence[Tensors], weights: Sequence[float]) -> Sequence[float]:
        norms = [adapter_norm(one) for one in uploads] if self.weighting == "norm" else []
        total = sum(norms)
        return [norm / total for norm in norms] if total > 0.0 else weights


def adapter_norm(adapter: Tensors) -> float:
    """Return the 2-norm of all products of an adapter; none is formed: ``||BA||^2 = <B'B, AA'>``."""
    square = 0.0
    for matrix in matrices_of(adapter):
        b, a = adapter[matrix.b_name].double(), adapter[matrix.a_name].double()
        square += float(((b.T @ b) * (a @ a.T)).sum())
    return sqrt(max(square, 0.0))
