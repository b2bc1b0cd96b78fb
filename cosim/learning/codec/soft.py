"""SOFT: the rank pairs that matter most."""

from typing import Any, ClassVar, Literal

from cosim.learning.codec import Sending
from cosim.learning.codec.pairs import FactorCodec, pairs_of
from cosim.learning.rank_pairs import Floats, RankPairs


class Soft(FactorCodec):
    """Sends the rank pairs of most energy, judged pair by pair: no product BA, no SVD.

    It is as good as an SVD where pairs are orthogonal, for which the regulariser
    ``orthogonality`` is there. Two settings are worth a name. *Literal*, as far as
    the paper is known: ``importance = "norm"``, ``error_feedback = false``. *Fixed*, and
    the default: ``importance = "delta"``, ``error_feedback = true``; without either,
    the same pairs win every round and the model stays at what those can express.

    Attributes
    ----------
    importance
        ``delta``: what the server lacks of a pair's product if it is not sent, what is
        held back included. ``norm``: the product of the norms of its two halves. ``product``: what
        the server lacks of the change of all products BA, pairs chosen one after the other in each
        matrix by how much less is lacking with them; it counts what pairs have in common.

    Source
    ------
    SOFT, arXiv 2505.00333: pairs ranked by a norm, without SVD. Its formulas are
    not known to us; ``delta``, error feedback and what becomes of unsent pairs
    are our own.
    """

    kind: Literal["soft"] = "soft"
    importance: Literal["delta", "norm", "product"] = "delta"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"importance": "norm", "error_feedback": False, "sparsification_ratio": 0.25},
        {"scope": "module", "unsent": "masked"},
        {"importance": "product", "measures_spread": True},
        {"unsent": "zerofill", "error_feedback": False, "sparsification_ratio": 1.0},
    )

    @property
    def ranks_by_norm(self) -> bool:
        """Whether pairs are distinguished by their norms alone."""
        return self.importance == "norm"

    def energies(self, sending: Sending) -> Floats:
        """Return the energies pairs are chosen by."""
        return self._worth(pairs_of(sending.tensors), sending)

    def _worth(self, pairs: RankPairs, sending: Sending) -> Floats:
        from cosim.learning.pair_energy import delta_energies, norm_energies, product_gains

        if self.importance == "norm":
            return norm_energies(pairs, sending.tensors)
        worth = product_gains if self.importance == "product" else delta_energies
        return worth(pairs, sending.tensors, sending.reference or {})
