"""Aggregator: the median of every number."""

from collections.abc import Sequence
from typing import Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors


class Median(Aggregator):
    """The coordinate-wise median of the factors, whatever the weights: a few bad clients move little.

    Source
    ------
    D. Yin et al., "Byzantine-robust distributed learning", ICML 2018.
    """

    kind: Literal["far_median"] = "far_median"

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Each upload; a sum has no median."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the median, of an even number of uploads the lower one."""
        import torch

        stacked = {name: torch.stack([one[name] for one in uploads]) for name in uploads[0]}
        return Average({name: tensor.median(dim=0).values for name, tensor in stacked.items()}, {})
