"""What rank pairs weigh, and what is lost without some of them; neither a product BA nor an SVD is formed.

Sums are in float64, whatever the factors are in.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cosim.learning.rank_pairs import Floats, RankPairs

if TYPE_CHECKING:
    from cosim.learning.model import Adapter

_LESS = 1.0 - 1e-9  # tells numbers apart that would be equal, and loses nothing of account

_Stack = tuple[tuple[int, ...], Tensor, Tensor]


def stacks_of(pairs: RankPairs, adapter: "Adapter") -> Iterator[_Stack]:
    """Return matrices of equal shape in one piece each.

    Returns
    -------
    modules, a, b
        Numbers of the matrices; rows of A and columns of B as rows, float64,
        shapes (num_modules, rank, num_inputs) and (num_modules, rank, num_outputs).
    """
    for numbers, a, b in _stacked(pairs, adapter):
        yield numbers, a.double(), b.double().transpose(1, 2)


def norm_energies(pairs: RankPairs, adapter: "Adapter") -> Floats:
    """Return the energy of each pair, (norm of b times norm of a) squared, shape (num_pairs,).

    All pairs together have the energy of BA only if those of A, or those of B,
    are orthogonal to each other.
    """
    return _by_pair(pairs, [(m, _rows(a, a) * _columns(b, b)) for m, a, b in _stacked(pairs, adapter)])


def delta_energies(pairs: RankPairs, adapter: "Adapter", reference: "Adapter") -> Floats:
    """Return what is lost of each pair's product if the receiver keeps the reference, shape (num_pairs,).

    With b', a' of the adapter and b, a of the reference it is the squared norm
    of b'a' - ba = (b' - b)a' + b(a' - a), written so that nothing cancels.

    Source
    ------
    Methods card "SOFT + TSFA", section 5, importance ``delta``.
    """
    found = []
    for (m, new_a, new_b), (_, a, b) in zip(
        _stacked(pairs, adapter), _stacked(pairs, reference), strict=True
    ):
        step_a, step_b = new_a - a, new_b - b
        energy = _columns(step_b, step_b) * _rows(new_a, new_a) + _columns(b, b) * _rows(step_a, step_a)
        energy += 2.0 * _columns(step_b, b) * _rows(new_a, step_a)
        found.append((m, energy.clamp(min=0.0)))
    return _by_pair(pairs, found)


def product_gains(pairs: RankPairs, adapter: "Adapter", reference: "Adapter") -> Floats:
    """Return how much less of the change of BA is lacking with each pair, shape (num_pairs,).

    In each matrix pairs are taken one after the other, the one that helps most first. With D_j the
    change of the product of pair j, as in :func:`delta_energies`, and R the sum of those not taken
    yet, pair j takes |R|^2 - |R - D_j|^2 = 2 <R, D_j> - |D_j|^2 off. A pair that would do harm has 0, and
    no other has as much as those before it, so that the numbers are in the order of the choice.
    Where changes are orthogonal these are the energies.
    """
    found = []
    for (modules, new_a, new_b), (_, a, b) in zip(
        stacks_of(pairs, adapter), stacks_of(pairs, reference), strict=True
    ):
        left, right = torch.cat([new_b - b, b], dim=1), torch.cat([new_a, new_a - a], dim=1)
        both = (left @ left.mT) * (right @ right.mT)  # (num_modules, 2 rank, 2 rank)
        rank = a.shape[1]
        gram = both.view(-1, 2, rank, 2, rank).sum(dim=(1, 3))  # <D_i, D_j>, (num_modules, rank, rank)
        energy, shared = gram.diagonal(dim1=1, dim2=2), gram.sum(dim=2)  # <R, D_j>
        gains, least = torch.zeros_like(energy), energy.new_full((len(gram), 1), float("inf"))
        is_left = torch.ones_like(energy, dtype=torch.bool)
        for _ in range(rank):
            best, index = (2.0 * shared - energy).where(is_left, -float("inf")).max(dim=1, keepdim=True)
            least = torch.minimum(least * _LESS, best.clamp(min=0.0))
            gains.scatter_(1, index, least)
            is_left.scatter_(1, index, False)
            shared = shared - gram.take_along_dim(index[:, :, None], dim=2).squeeze(2)
        found.append((modules, gains))
    return _by_pair(pairs, found)


def coherence(pairs: RankPairs, adapter: "Adapter") -> float:
    """Return the largest abs(cos(b_i, b_j) cos(a_i, a_j)) of two pairs of one matrix, in [0, 1].

    With coherence mu, what is lost without w pairs lies within a factor 1 - mu (w - 1)
    and 1 + mu (w - 1) of the sum of their energies. A pair of norm zero is
    orthogonal to all.
    """
    highest = 0.0
    for _, a, b in stacks_of(pairs, adapter):
        found = _cosines(a) * _cosines(b)
        found.diagonal(dim1=1, dim2=2).zero_()
        highest = max(highest, float(found.abs().max()))
    return highest


def covariance_error(
    pairs: RankPairs, adapters: Sequence["Adapter"], weights: Sequence[float], reference: "Adapter"
) -> float:
    """Return how far the product of averaged factors is from the averaged product, relative to its step.

    It is norm(sum p_k B_k A_k - Bbar Abar) / norm(sum p_k B_k A_k - B A), both over
    all matrices, with B, A the reference all clients began from; 0 if nobody moved.

    Parameters
    ----------
    adapters, weights
        As they are averaged; weights add up to one.
    reference
        What the round began from.

    Source
    ------
    Methods card "SOFT + TSFA", section 3: the first is the weighted
    cross-covariance of the factors, sum p_k (B_k - Bbar)(A_k - Abar).
    """
    error = step = 0.0
    for covariance, left, right in mean_updates(pairs, reference, adapters, weights):
        error += covariance
        step += product_energy(left, right)
    return sqrt(error / step) if step > 0.0 else 0.0


def mean_updates(
    pairs: RankPairs, reference: "Adapter", adapters: Sequence["Adapter"], weights: Sequence[float]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Return, stack by stack, what the mean of the clients' products has beyond the reference's.

    The squared norm of the factors' covariance, and the mean of the steps as ``left^T right``.
    """
    for (_, a0, b0), *of_clients in zip(
        stacks_of(pairs, reference), *(stacks_of(pairs, adapter) for adapter in adapters), strict=True
    ):
        a = torch.stack([one[1] for one in of_clients], dim=1)
        b = torch.stack([one[2] for one in of_clients], dim=1)
        share = a.new_tensor(weights)[:, None, None]
        mean_a, mean_b = ((share * factor).sum(dim=1, keepdim=True) for factor in (a, b))
        covariance = product_energy((share * (b - mean_b)).flatten(1, 2), (a - mean_a).flatten(1, 2))
        # B_k A_k - B A = (B_k - B) A_k + B (A_k - A): no large numbers that cancel
        left = torch.cat([(share * (b - b0[:, None])).flatten(1, 2), b0], dim=1)
        yield covariance, left, torch.cat([a.flatten(1, 2), mean_a.squeeze(1) - a0], dim=1)


def product_bias(
    pairs: RankPairs,
    adapters: Sequence["Adapter"],
    weights: Sequence[float],
    averaged: "Adapter",
    merged: "Adapter | None" = None,
) -> float:
    """Return how far the product after an average is from the averaged product, relative to that.

    It is norm(B A + M - sum p_k B_k A_k) / norm(sum p_k B_k A_k), both over all
    matrices; 0 if all products are zero.

    Parameters
    ----------
    adapters, weights
        As they were averaged; weights add up to one.
    averaged
        B, A: what clients go on from.
    merged
        M, of shape (outputs, inputs) by the name of A: what the average added to the base, over the scaling.
        Only with it, where the server has formed such matrices itself, are products formed.
    """
    error = size = 0.0
    for (modules, a0, b0), *of_clients in zip(
        stacks_of(pairs, averaged), *(stacks_of(pairs, adapter) for adapter in adapters), strict=True
    ):
        a = torch.stack([one[1] for one in of_clients], dim=1)
        b = torch.stack([one[2] for one in of_clients], dim=1)
        share = a.new_tensor(weights)[:, None, None]
        mean_a, mean_b = ((share * factor).sum(dim=1) for factor in (a, b))
        size += product_energy((share * b).flatten(1, 2), a.flatten(1, 2))
        # sum p_k B_k A_k - B A is sum p_k (B_k - B)(A_k - A) and what the means differ by
        left = torch.cat([(share * (b - b0[:, None])).flatten(1, 2), mean_b - b0, b0], dim=1)
        right = torch.cat([(a - a0[:, None]).flatten(1, 2), a0, mean_a - a0], dim=1)
        if merged is None:
            error += product_energy(left, right)
        else:
            added = torch.stack([merged[pairs.modules[number].a_name] for number in modules]).double()
            error += float((left.transpose(1, 2) @ right - added).square().sum())
    return sqrt(error / size) if size > 0.0 else 0.0


def product_energy(left: Tensor, right: Tensor) -> float:
    """Return the squared norm of ``left^T right``, summed over a stack.

    Parameters
    ----------
    left, right
        Shapes (num_modules, width, num_outputs) and (num_modules, width, num_inputs):
        columns of B and rows of A, one below the other.
    """
    width = left.shape[1]
    if width >= min(left.shape[2], right.shape[2]):
        return float((left.transpose(1, 2) @ right).square().sum())
    grams = (left @ left.transpose(1, 2)) * (right @ right.transpose(1, 2))
    return max(float(grams.sum()), 0.0)


def _stacked(pairs: RankPairs, adapter: "Adapter") -> Iterator[_Stack]:
    """Return matrices of equal shape in one piece each, as they are: A by rows, B by columns."""
    for numbers in pairs.stacks:
        modules = [pairs.modules[number] for number in numbers]
        a = torch.stack([adapter[module.a_name].detach() for module in modules])
        yield numbers, a, torch.stack([adapter[module.b_name].detach() for module in modules])


def _rows(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of rows of A, added up in float64, shape (num_modules, rank)."""
    return (left * right).sum(dim=2, dtype=torch.float64)


def _columns(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of columns of B, added up in float64, shape (num_modules, rank)."""
    return (left * right).sum(dim=1, dtype=torch.float64)


def _cosines(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    return unit @ unit.transpose(1, 2)


def _by_pair(pairs: RankPairs, found: Sequence[tuple[tuple[int, ...], Tensor]]) -> Floats:
    """Return numbers that were worked out stack by stack, in the numbering of the pairs."""
    energies = np.empty(pairs.count)
    for modules, stack in found:
        rows = stack.cpu().numpy()
        for module, row in zip(modules, rows, strict=True):
            energies[pairs.slices[module]] = row
    return energies
