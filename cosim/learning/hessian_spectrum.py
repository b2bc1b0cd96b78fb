"""Where the eigenvalues of a loss's Hessian lie, from products of it with vectors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cosim.learning.spectrum_size import MOST_PRODUCTS

_VARIANCE, _STEP, _STEADY, _NUM_STEADY = 1e-5, 0.1, 0.005, 4


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues, and how much of the spectrum each is; shares add up to one, but for an empty spectrum."""

    values: Tensor
    shares: Tensor

    def share_above(self, threshold: float) -> float:
        """Return how much of the spectrum is above a threshold, each eigenvalue as a narrow normal density.

        Its variance is 1e-5 times the range of the eigenvalues, or 1e-5 where that is below one.
        """
        if not len(self.values):
            return 0.0
        width = math.sqrt(_VARIANCE * max(1.0, float(self.values.max() - self.values.min())))
        return float(self.shares @ torch.special.ndtr((self.values - threshold) / width))

    def threshold(self) -> float:
        """Return from where on raising a threshold changes the share above it by less than 0.005 three times.

        It rises from 0 in steps of 0.1, which are halved as long as half of what was above 0 is lost first.
        """
        step, begin = _STEP, self.share_above(0.0)
        while True:
            shares = [begin]
            while shares[-1] >= begin / 2:
                last = shares[-_NUM_STEADY:]
                if len(last) == _NUM_STEADY and all(
                    abs(one - after) < _STEADY for one, after in pairwise(last)
                ):
                    return (len(shares) - 1) * step
                shares.append(self.share_above(len(shares) * step))
            step /= 2


def spectrum(product: Callable[[Tensor], Tensor], probe: Tensor, most: int = MOST_PRODUCTS) -> Spectrum:
    """Return the spectrum of a symmetric matrix by stochastic Lanczos quadrature, in float64.

    Moments of it are those of the matrix along the probe, ``v^T H^k v``, up to ``2 most - 1``; all of them
    where as many products were made as there are numbers. Each direction is made orthogonal to all
    before, twice.

    Parameters
    ----------
    product
        Returns the matrix times a vector.
    probe
        Where to begin, such as signs drawn at random, shape (size,).
    most
        Products at most.

    Source
    ------
    S. Ubaru, J. Chen, Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM
    J. Matrix Anal. Appl. 2017; T. Che et al., FedPepTAO, arXiv 2310.15080, with 50 products of one probe.
    Their code sums densities on a grid of 10,000 points; here the normal distribution is exact.
    """
    size, scale = len(probe), 0.0
    if not size:
        return Spectrum(probe.double(), probe.double())
    basis, diagonal, beside = [probe.double() / probe.double().norm()], list[Tensor](), list[Tensor]()
    while True:
        found = product(basis[-1].to(probe.dtype)).double()
        diagonal.append(found @ basis[-1])
        so_far = torch.stack(basis)
        for _ in range(2):
            found = found - so_far.T @ (so_far @ found)
        length = found.norm()
        scale = max(scale, float(diagonal[-1].abs()), float(length))
        if len(basis) == min(size, most) or float(length) <= 1e-12 * scale:
            break
        beside.append(length)
        basis.append(found / length)
    matrix = torch.diag(torch.stack(diagonal))
    if beside:
        off = torch.stack(beside)
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return Spectrum(values, vectors[0] ** 2)
