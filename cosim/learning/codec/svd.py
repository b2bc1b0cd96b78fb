"""The largest singular values of every product BA, to measure SOFT against."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from cosim.learning.codec import Sending, Tensors
from cosim.learning.codec.pairs import PairCodec, pairs_of
from cosim.learning.rank_pairs import Floats, RankPairs

if TYPE_CHECKING:
    from torch import Tensor


class Svd(PairCodec):
    """Sends the largest singular values of a client's products BA, with their vectors, as rank pairs.

    The best that as many pairs can say of one client's matrices. But pairs of
    one number of two clients then have nothing to do with each other, so the
    server must average products, not factors: the aggregator ``product_svd``, or an exact one.
    What is not sent is zero, and nothing is held back.

    Source
    ------
    C. Eckart, G. Young, "The approximation of one matrix by another of lower rank",
    Psychometrika, 1936; thin, by QR of both factors, O((inputs + outputs) rank^2).
    """

    kind: Literal["svd"] = "svd"
    turns_factors: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"sparsification_ratio": 0.25, "scope": "module"})

    @property
    def _falls_back_to_zero(self) -> bool:
        return True

    def energies(self, sending: Sending) -> Floats:
        """Return the squared singular values."""
        return self._weigh(pairs_of(sending.tensors), sending)[1]

    def _weigh(self, pairs: RankPairs, sending: Sending) -> tuple[Tensors, Floats, Floats]:
        from cosim.learning.pair_energy import stacks_of

        found, energies = dict(sending.tensors), np.empty(pairs.count)
        for modules, a, b in stacks_of(pairs, sending.tensors):
            left, singular, right = thin_svd(b.transpose(1, 2), a)
            root = singular.sqrt()[:, :, None]
            for place, number in enumerate(modules):
                module = pairs.modules[number]
                dtype = sending.tensors[module.a_name].dtype
                found[module.a_name] = (root * right)[place].to(dtype)
                found[module.b_name] = (root * left.transpose(1, 2))[place].T.to(dtype)
                energies[pairs.slices[number]] = singular[place].square().cpu().numpy()
        return found, energies, energies


def thin_svd(b: "Tensor", a: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """Return the singular value decomposition of ``b @ a`` without forming it.

    Parameters
    ----------
    b, a
        Shapes (..., num_outputs, rank) and (..., rank, num_inputs).

    Returns
    -------
    left, singular, right
        Shapes (..., num_outputs, rank), (..., rank), falling, and (..., rank, num_inputs);
        a rank beyond the sizes of the product has singular values of zero.
    """
    import torch

    rank = a.shape[-2]
    q_left, r_left = torch.linalg.qr(b)
    q_right, r_right = torch.linalg.qr(a.transpose(-1, -2))
    left, singular, right = torch.linalg.svd(r_left @ r_right.transpose(-1, -2), full_matrices=False)
    left, right = q_left @ left, right @ q_right.transpose(-1, -2)
    missing = rank - singular.shape[-1]
    if missing:
        pad = torch.nn.functional.pad
        left, singular = pad(left, (0, missing)), pad(singular, (0, missing))
        right = pad(right, (0, 0, 0, missing))
    return left, singular, right
