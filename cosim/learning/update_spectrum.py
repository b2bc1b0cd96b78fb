"""What a round would change of a model if nothing were left out, and what averaging factors adds to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.learning.pair_energy import product_energy, stacks_of
from cosim.learning.rank_pairs import Floats, RankPairs

if TYPE_CHECKING:
    from cosim.learning.model import Adapter


def update_spectrum(
    pairs: RankPairs, adapters: Sequence["Adapter"], weights: Sequence[float], reference: "Adapter"
) -> tuple[Floats, float, float]:
    """Return the spectrum of the ideal update of a round, and the covariance energy.

    The ideal update is that of the products, ``sum p_k B_k A_k - B A``. Its singular
    values are found from thin QR of both sides; no product is formed.

    Parameters
    ----------
    adapters, weights
        What the clients have at the end of the round; weights add up to one.
    reference
        What they began it from.

    Returns
    -------
    energies, beyond, covariance
        Squares of the first ``rank`` singular values, the j-th of all matrices added
        up, shape (rank,); the energy beyond them; and the squared norm of
        ``sum p_k B_k A_k - Bbar Abar``.

    Source
    ------
    Methods card "SOFT + TSFA", sections 3 and 8.2.
    """
    rank = max(module.rank for module in pairs.modules)
    energies, beyond, covariance = np.zeros(rank), 0.0, 0.0
    for (_, a0, b0), *of_clients in zip(
        stacks_of(pairs, reference), *(stacks_of(pairs, adapter) for adapter in adapters), strict=True
    ):
        a = torch.stack([one[1] for one in of_clients], dim=1)
        b = torch.stack([one[2] for one in of_clients], dim=1)
        share = a.new_tensor(weights)[:, None, None]
        mean_a, mean_b = ((share * factor).sum(dim=1, keepdim=True) for factor in (a, b))
        covariance += product_energy((share * (b - mean_b)).flatten(1, 2), (a - mean_a).flatten(1, 2))
        # B_k A_k - B A = (B_k - B) A_k + B (A_k - A): no large numbers that cancel
        left = torch.cat([(share * (b - b0[:, None])).flatten(1, 2), b0], dim=1)
        right = torch.cat([a.flatten(1, 2), mean_a.squeeze(1) - a0], dim=1)
        small = torch.linalg.qr(left.transpose(1, 2)).R @ torch.linalg.qr(right.transpose(1, 2)).R.mT
        squares = torch.linalg.svdvals(small).square().sum(dim=0).cpu().numpy()
        energies[: len(squares)] += squares[:rank]
        beyond += float(squares[rank:].sum())
    return energies, beyond, covariance
