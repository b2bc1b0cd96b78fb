"""Sums over the uploads of a round, and the factors in them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cosim.learning.shape import Factor

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.rank_pairs import Factors

Tensors = dict[str, "Tensor"]


def weighted_sum(terms: Sequence[Tensors], weights: Sequence[float]) -> Tensors:
    """Return the sum in the order of the terms, which fixes its rounding."""
    import torch

    names = list(terms[0])
    if not names:
        return {}
    total = [terms[0][name] * weights[0] for name in names]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        torch._foreach_add_(total, [term[name] for name in names], alpha=weight)
    return dict(zip(names, total, strict=True))


def mean_of_given(terms: Sequence[Tensors], weights: Sequence[float]) -> Tensors:
    """Return the weighted sum; a tensor some terms lack is the mean over those that have it.

    Weights add up to one; for the mean they are scaled so that they do again. A term by itself is
    handed on as it is.
    """
    if len(terms) == 1 and weights[0] == 1.0:
        return dict(terms[0])
    names = dict.fromkeys(name for term in terms for name in term)
    complete = [name for name in names if all(name in term for term in terms)]
    total = weighted_sum([{name: term[name] for name in complete} for term in terms], weights)
    for name in names:
        if name not in total:
            given = [(term, weight) for term, weight in zip(terms, weights, strict=True) if name in term]
            share = sum(weight for _, weight in given)
            alone = [{name: term[name]} for term, _ in given]
            total |= weighted_sum(alone, [weight / share for _, weight in given])
    return total


def masked_mean(
    terms: Sequence[Tensors], weights: Sequence[float], masks: Sequence[Tensors], known: Tensors
) -> Tensors:
    """Return the mean over those who sent a number, and the number that was known where nobody did."""
    mean = {}
    for name, before in known.items():
        total, share = before * 0.0, before * 0.0
        for term, weight, mask in zip(terms, weights, masks, strict=True):
            if name in term:
                total, share = total + weight * mask[name] * term[name], share + weight * mask[name]
        mean[name] = (total / share.where(share > 0.0, 1.0)).where(share > 0.0, before)
    return mean


def matrices_of(adapter: Tensors) -> "tuple[Factors, ...]":
    """Return the adapted matrices, with the names and shapes of their factors."""
    from cosim.learning.rank_pairs import RankPairs

    return RankPairs.of({name: tuple(tensor.shape) for name, tensor in adapter.items()}).modules


def factor_of(name: str) -> Factor | None:
    """Return which factor a tensor is, by its name; None for what is no factor.

    Examples
    --------
    >>> factor_of("h.0.attn.c_attn.lora_A.weight"), factor_of("score.weight")
    ('A', None)
    """
    if ".lora_A." in name:
        return "A"
    return "B" if ".lora_B." in name else None


def without_factors(adapter: Tensors) -> Tensors:
    """Return the tensors that are no factors."""
    return {name: tensor for name, tensor in adapter.items() if factor_of(name) is None}


def only(adapter: Tensors, factors: frozenset[Factor] | set[Factor]) -> Tensors:
    """Return the tensors of these factors, and those that are no factors."""
    return {name: tensor for name, tensor in adapter.items() if factor_of(name) in {*factors, None}}


def truncated(adapter: Tensors, rank: int) -> Tensors:
    """Return the first rank pairs of every matrix."""
    return {name: _first_pairs(name, tensor, rank) for name, tensor in adapter.items()}


def padded(adapter: Tensors, like: Mapping[str, "Tensor"]) -> Tensors:
    """Return the adapter with pairs of zeros behind its own, up to the shapes of another."""
    grown = {}
    for name, tensor in adapter.items():
        if tensor.shape != like[name].shape:
            whole = tensor.new_zeros(like[name].shape)
            whole[: tensor.shape[0], : tensor.shape[1]] = tensor
            tensor = whole
        grown[name] = tensor
    return grown


def added(residual: Tensors, more: Tensors) -> Tensors:
    """Return what is merged into the base after one more round."""
    return {name: residual[name] + one if name in residual else one for name, one in more.items()}


def stack(
    uploads: Sequence[Tensors], weights: Sequence[float], matrix: "Factors"
) -> tuple["Tensor", "Tensor"]:
    """Return factors whose product is the weighted mean of one matrix's products: B beside B, A below A."""
    import torch

    left = torch.cat([one[matrix.b_name] for one in uploads], dim=1)
    right = [one[matrix.a_name] * weight for one, weight in zip(uploads, weights, strict=True)]
    return left, torch.cat(right, dim=0)


def _first_pairs(name: str, tensor: "Tensor", rank: int) -> "Tensor":
    if factor_of(name) == "A":
        return tensor[:rank]
    return tensor[:, :rank].contiguous() if factor_of(name) == "B" else tensor
