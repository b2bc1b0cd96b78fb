"""The largest singular values of what was learned become the adapter."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.aggregator.sums import matrices_of
from cosim.learning.handover import Handover, Start, Tensors
from cosim.learning.shape import Linear

if TYPE_CHECKING:
    from torch import Tensor


class Svd(Handover):
    """Of the change ``D = U S V'`` of a matrix, A starts as ``V'`` and B as ``U S / s``, at their rank.

    The change of weights at random places has nearly full rank, so what a low rank keeps of it
    is little; ``handover_kept_energy`` is recorded.

    Attributes
    ----------
    keep_residual
        ``false``: the base is as it was, and the rest is lost, as published. ``true``: what the
        factors do not have, ``D - s B A``, joins the base. Nothing travels for it: every client knows D
        and the factors.

    Source
    ------
    S. Babakniya et al., arXiv 2308.06522, the switch to stage 2; division by the scale as an
    implementation by others has it. ``keep_residual`` is ours. FLOP: G. H. Golub and C. F. Van Loan, "Matrix
    computations", for singular values and both sets of vectors, ``14 m n^2 + 8 n^3``.
    """

    kind: Literal["svd"] = "svd"
    keep_residual: bool = Field(default=False)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"keep_residual": True})

    @property
    def keeps_residual(self) -> bool:
        """As set."""
        return self.keep_residual

    def begin(self, changes: Mapping[str, "Tensor"], fresh: Tensors, scaling: float) -> Start:
        """Return the factors, worked out in float64, and the rest where it is kept."""
        import torch

        from cosim.learning.aggregator.product_svd import filled_factors

        adapter, residual, kept, all_ = dict(fresh), {}, 0.0, 0.0
        for matrix in (one for one in matrices_of(fresh) if one.a_name in changes):
            change = changes[matrix.a_name].double()
            u, values, v = torch.linalg.svd(change, full_matrices=False)
            first = slice(matrix.rank)
            b, a = filled_factors(u[:, first], values[first], v[first], matrix.rank)
            for name, factor in ((matrix.a_name, a), (matrix.b_name, b / scaling)):
                adapter[name] = factor.to(fresh[name].dtype)
            if self.keep_residual:
                product = scaling * adapter[matrix.b_name].double() @ adapter[matrix.a_name].double()
                residual[matrix.a_name] = (change - product).to(fresh[matrix.a_name].dtype)
            kept += float(values[first].square().sum())
            all_ += float(values.square().sum())
        return Start(adapter, residual, kept / all_ if all_ > 0.0 else 1.0)

    def flop(self, matrices: Collection[Linear]) -> int:
        """Return those of the decompositions."""
        sizes = [sorted((one.d_in, one.d_out)) for one in matrices]
        return sum(14 * large * small**2 + 8 * small**3 for small, large in sizes)
