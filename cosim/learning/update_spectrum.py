"""What a round would change of a model if nothing were left out, and what averaging factors adds to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.learning.pair_energy import mean_updates
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
    for more, left, right in mean_updates(pairs, reference, adapters, weights):
        covariance += more
        small = torch.linalg.qr(left.transpose(1, 2)).R @ torch.linalg.qr(right.transpose(1, 2)).R.mT
        squares = torch.linalg.svdvals(small).square().sum(dim=0).cpu().numpy()
        energies[: len(squares)] += squares[:rank]
        beyond += float(squares[rank:].sum())
    return energies, beyond, covariance
