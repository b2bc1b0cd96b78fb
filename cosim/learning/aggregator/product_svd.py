"""Mean of the products, taken apart again by a singular value decomposition."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import matrices_of, stack, weighted_sum, without_factors

if TYPE_CHECKING:
    from torch import Tensor


class ProductSvd(Aggregator):
    """The best approximation of ``sum p_k B_k A_k`` at the rank of the model, as new factors.

    A client of a lower rank starts from the largest singular values. The mean
    product is never formed: its factors are stacked, each is taken apart by QR,
    and the small product of the triangular parts by SVD. B takes the singular
    values, A has orthonormal rows: a pair that carries nothing yet then is as at
    the start of LoRA, zero on one side only, and can still be trained. Factors
    are turned by this, so moments start again.

    Source
    ------
    J. Bai et al., "Federated fine-tuning of large language models under
    heterogeneous tasks and client resources" (FlexLoRA), NeurIPS 2024, arXiv
    2402.11505, which decomposes the product itself.
    """

    kind: Literal["product_svd"] = "product_svd"
    averages_products: ClassVar[bool] = True
    keeps_factors: ClassVar[bool] = False
    takes_ranks: ClassVar[bool] = True
    keeps_moments: ClassVar[bool] = False
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"client_ranks": [2, 4, 1]})

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Products are of single clients."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the factors of the best approximation."""
        new = dict(server.adapter)
        new |= weighted_sum([without_factors(one) for one in uploads], weights)
        for matrix in matrices_of(server.adapter):
            left, right = stack(uploads, weights, matrix)
            new[matrix.b_name], new[matrix.a_name] = best_factors(left, right, matrix.rank)
        return Average(new, {})


def best_factors(left: "Tensor", right: "Tensor", rank: int) -> tuple["Tensor", "Tensor"]:
    """Return the factors of the best approximation of ``left @ right`` at a rank.

    Parameters
    ----------
    left, right
        Shapes (outputs, inner) and (inner, inputs).
    rank
        Of the result; what it has beyond outputs, inputs or inner is zero in both factors.

    Returns
    -------
    b, a
        As of :func:`filled_factors`.
    """
    import torch

    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    count = min(rank, len(values))
    return filled_factors(q_left @ u[:, :count], values[:count], v[:count] @ q_right.T, rank)


def filled_factors(b: "Tensor", values: "Tensor", a: "Tensor", rank: int) -> tuple["Tensor", "Tensor"]:
    """Return factors of a rank from singular vectors and values, of which there may be fewer.

    Parameters
    ----------
    b, values, a
        Columns, singular values from the largest down, and rows.

    Returns
    -------
    b, a
        Shapes (outputs, rank) and (rank, inputs). The columns of B are orthogonal
        and fall in length, the rows of A are orthonormal. The largest number of
        each column of B, or of each row of A where the column is zero, is positive.
    """
    import torch

    count = len(values)
    largest = b.gather(0, b.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    signs = torch.where(largest < 0.0, -torch.ones_like(largest), torch.ones_like(largest))
    whole_b = b.new_zeros(b.shape[0], rank)
    whole_a = a.new_zeros(rank, a.shape[1])
    whole_b[:, :count] = b * (signs * values[:count])
    whole_a[:count] = signs[:, None] * a
    return whole_b, whole_a
