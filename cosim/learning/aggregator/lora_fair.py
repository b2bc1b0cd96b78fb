"""Mean of the factors, corrected towards the mean of the products."""

from collections.abc import Collection, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import matrices_of, weighted_sum
from cosim.learning.shape import Linear
from cosim.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

_CUTOFF = 1e-12  # of the largest: eigenvalues below it are rounding
_TINY = 1e-300


class LoraFair(Aggregator):
    """A and B are averaged, then B is moved so that ``B A`` comes closer to ``W = sum p_k B_k A_k``.

    The correction D of each matrix minimises a distance of ``(B + D) A`` to W plus a penalty
    on D. Nothing travels beside the factors, and clients go on from the corrected ones. No
    matrix of outputs by inputs is formed: all is worked out on products of factors, in float64.

    The server is charged the matrix products of the correction, not the sums before it.

    Attributes
    ----------
    form
        ``closed`` takes the squared Frobenius distance, so that
        ``D = (W - B A) A' (A A' + penalty I)^-1``, of the least norm where A lacks rank without a
        penalty (re-derived). ``cosine`` takes 1 - cosine, and goes down its gradient. A cosine
        does not see how long ``B A`` is; it cannot mend that.
    corrects
        ``B``, as published; ``A``, the same with the two exchanged; ``both``, B and then A for what
        is left. How the paper corrects both was not seen.
    penalty
        The paper's lambda; 0.01 is its default.
    penalty_norm
        What of D it multiplies with ``cosine``: its ``squared`` norm, as an independent
        implementation has it, or the ``plain`` norm, as a note on the paper writes it. The plain norm has
        a kink at zero, so it is taken by its proximal step; a gradient step would swing about zero for ever.
    num_steps, learning_rate
        Of the descent; 1000 and 0.01 are those of the independent implementation.
    start
        Where the descent begins: at ``zero``, or ``xavier``, drawn, as the independent implementation has it.
        What is drawn is larger than B is at first, and a thousand steps do not take all of it back.

    Source
    ------
    J. Bian et al., "LoRA-FAIR: federated LoRA fine-tuning with aggregation and initialization
    refinement", ICCV 2025, arXiv 2411.14961. Seen: the abstract, a note on the paper and an independent
    implementation; the authors' code was not.
    """

    kind: Literal["lora_fair"] = "lora_fair"
    form: Literal["closed", "cosine"] = "closed"
    corrects: Literal["A", "B", "both"] = "B"
    penalty: float = Field(default=0.01, ge=0.0)
    penalty_norm: Literal["squared", "plain"] = "squared"
    num_steps: int = Field(default=1000, gt=0, le=1_000_000)
    learning_rate: float = Field(default=1e-2, gt=0.0)
    start: Literal["zero", "xavier"] = "zero"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"corrects": "both", "penalty": 0.0},
        {"form": "cosine", "num_steps": 20},
        {"form": "cosine", "corrects": "A", "penalty_norm": "plain", "num_steps": 20},
    )

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """Products are of single clients."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the corrected mean of the factors."""
        mean = weighted_sum(uploads, weights)
        corrected = dict(mean)
        for matrix in matrices_of(mean):
            each = [(one[matrix.b_name].double(), one[matrix.a_name].double()) for one in uploads]
            b, a = mean[matrix.b_name].double(), mean[matrix.a_name].double()
            if self.corrects != "A":
                b = self._corrected(_Side.of(each, weights, b, a), server.seed, matrix.b_name)
            if self.corrects != "B":
                exchanged = [(one_a.T, one_b.T) for one_b, one_a in each]
                a = self._corrected(_Side.of(exchanged, weights, a.T, b.T), server.seed, matrix.a_name).T
            for name, factor in ((matrix.b_name, b), (matrix.a_name, a)):
                corrected[name] = factor.to(mean[name].dtype).contiguous()
        return Average(corrected, {})

    def flop(self, matrices: Collection[Linear], rank: int, num_senders: int) -> int:
        """Return the FLOP of all matrix products of the correction."""
        sides = [(one.d_out, one.d_in) for one in matrices for _ in range(self.corrects != "A")]
        sides += [(one.d_in, one.d_out) for one in matrices for _ in range(self.corrects != "B")]
        return sum(self._side_flop(*side, rank, num_senders) for side in sides)

    def _side_flop(self, moved: int, fixed: int, rank: int, num_senders: int) -> int:
        """Return the FLOP to correct a factor of so many rows beside one of so many columns."""
        square = 2 * rank * rank
        flop = square * (fixed + (num_senders + 1) * (fixed + moved))
        if self.form == "closed":
            return flop + square * (rank + moved)
        norm = 2 * (num_senders * rank) ** 2 * (fixed + moved)
        return flop + norm + square * moved * (1 + self.num_steps)

    def _corrected(self, side: "_Side", seed: int, name: str) -> "Tensor":
        """Return the left factor with its correction."""
        if self.form == "closed":
            return side.left + side.missing @ _inverse(side.gram, self.penalty)
        target, length = side.missing + side.left @ side.gram, side.length()
        moved = self._start(side.left, seed, name)
        for _ in range(self.num_steps):
            slope = _cosine_slope(side.left + moved, target, side.gram, length)
            if self.penalty_norm == "squared":
                slope = slope - 2.0 * self.penalty * moved
            moved = moved + self.learning_rate * slope
            if self.penalty_norm == "plain":
                norm = moved.norm().clamp(min=_TINY)
                moved = moved * (1.0 - self.learning_rate * self.penalty / norm).clamp(min=0.0)
        return side.left + moved

    def _start(self, like: "Tensor", seed: int, name: str) -> "Tensor":
        """Return the correction the descent begins with."""
        import torch

        if self.start == "zero":
            return torch.zeros_like(like)
        generator = torch.Generator().manual_seed(stream(seed, "correction", name).torch_seed())
        bound = sqrt(6.0 / sum(like.shape))
        drawn = torch.empty(like.shape, dtype=like.dtype).uniform_(-bound, bound, generator=generator)
        return drawn.to(like.device)


class _Side(NamedTuple):
    """What the correction of the left factor L of ``L R`` needs to know of the uploads, in float64.

    Attributes
    ----------
    factors
        Of each upload the left factor times its weight, and the right one.
    left
        L, the mean, shape (rows, rank).
    gram
        ``R R'``, shape (rank, rank).
    missing
        ``(W - L R) R'``, shape (rows, rank).
    """

    factors: list[tuple["Tensor", "Tensor"]]
    left: "Tensor"
    gram: "Tensor"
    missing: "Tensor"

    @classmethod
    def of(
        cls,
        each: Sequence[tuple["Tensor", "Tensor"]],
        weights: Sequence[float],
        left: "Tensor",
        right: "Tensor",
    ) -> "_Side":
        """Return it of the uploads' left and right factors.

        ``W - L R`` is ``sum p_k (L_k - L) R_k`` plus ``L (mean of R_k - R)``; nothing large cancels.
        """
        pairs = list(zip(weights, each, strict=True))
        missing = left @ ((sum(p * one for p, (_, one) in pairs) - right) @ right.T)
        for p, (one_left, one_right) in pairs:
            missing = missing + (p * (one_left - left)) @ (one_right @ right.T)
        factors = [(p * one_left, one_right) for p, (one_left, one_right) in pairs]
        return cls(factors, left, right @ right.T, missing)

    def length(self) -> "Tensor":
        """Return the norm of W."""
        import torch

        left = torch.cat([one for one, _ in self.factors], dim=1)
        right = torch.cat([one for _, one in self.factors], dim=0)
        return ((left.T @ left) * (right @ right.T)).sum().clamp(min=0.0).sqrt()


def _cosine_slope(left: "Tensor", target: "Tensor", gram: "Tensor", length: "Tensor") -> "Tensor":
    """Return the gradient by L of the cosine of ``L R`` and W; zero where one of them is.

    Parameters
    ----------
    left
        L, shape (rows, rank).
    target, gram, length
        ``W R'``, ``R R'`` and the norm of W.
    """
    along = left @ gram
    square = (along * left).sum().clamp(min=_TINY)
    scale = square.sqrt() * length.where(length > 0.0, float("inf"))
    slope: Tensor = (target - along * ((target * left).sum() / square)) / scale
    return slope


def _inverse(gram: "Tensor", penalty: float) -> "Tensor":
    """Return ``(gram + penalty I)^-1``, or the pseudo-inverse where that has none."""
    import torch

    values, vectors = torch.linalg.eigh(gram)
    values = values + penalty
    kept = values > _CUTOFF * values.max()
    inverse: Tensor = (vectors * (kept / values.where(kept, 1.0))) @ vectors.T
    return inverse
