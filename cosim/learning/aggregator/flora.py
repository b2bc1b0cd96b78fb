"""Stacking: all clients' factors go into the base, and everybody starts afresh."""

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors, stack_or_dense
from cosim.learning.aggregator.sums import added, matrices_of, stack, weighted_sum, without_factors
from cosim.learning.shape import Linear
from cosim.rng import stream


class Flora(Aggregator):
    """The stack ``s [B_1 .. B_K][p_1 A_1; ..; p_K A_K]`` is merged into the base; new adapters are drawn.

    The model after a round is exactly the weighted mean of the clients' models,
    whatever their ranks. Everybody needs the stack, or its product where that is
    smaller. A new A is drawn each round from a seed all know, B is zero, so
    nothing else travels; moments of factors that are gone start again.

    Source
    ------
    Z. Wang et al., "FLoRA: federated fine-tuning large language models with
    heterogeneous low-rank adaptations", NeurIPS 2024, arXiv 2409.05976. There
    each client draws an A of its own; one for all is our choice.
    """

    kind: Literal["flora"] = "flora"
    averages_products: ClassVar[bool] = True
    keeps_factors: ClassVar[bool] = False
    takes_ranks: ClassVar[bool] = True
    keeps_moments: ClassVar[bool] = False
    has_residual: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"client_ranks": [2, 4, 1]})

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Each client's factors are in the stack."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return a fresh adapter, and the residual with the stack's product added."""
        fresh = dict(server.adapter)
        fresh |= weighted_sum([without_factors(one) for one in uploads], weights)
        merged = {}
        for matrix in matrices_of(server.adapter):
            left, right = stack(uploads, weights, matrix)
            merged[matrix.a_name] = server.scaling * (left @ right)
            fresh[matrix.a_name] = _drawn(fresh[matrix.a_name], server.seed, matrix.a_name)
            fresh[matrix.b_name] = left.new_zeros(fresh[matrix.b_name].shape)
        return Average(fresh, added(server.residual, merged))

    def download_numbers(
        self, matrices: Collection[Linear], rank: int, sender_ranks: Sequence[int], round_: int
    ) -> int:
        """Return the numbers of the stack; the fresh adapter follows from a seed."""
        return sum(stack_or_dense(one, sum(sender_ranks)) for one in matrices)


def _drawn(like: Any, seed: int, name: str) -> Any:
    """Return an A uniform as PEFT draws it, in float32 on the CPU, whatever format and device it has."""
    import torch

    bound = 1.0 / sqrt(like.shape[1])
    generator = torch.Generator().manual_seed(stream(seed, "fresh adapter", name).torch_seed())
    values = torch.empty(like.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    return values.to(device=like.device, dtype=like.dtype)
