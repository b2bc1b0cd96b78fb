"""Rank pairs drawn by chance, to measure a choice against."""

from typing import Any, ClassVar, Literal

from cosim.learning.codec import Sending
from cosim.learning.codec.pairs import FactorCodec, pairs_of
from cosim.learning.rank_pairs import Floats, RankPairs
from cosim.rng import stream


class RandomRanks(FactorCodec):
    """Sends rank pairs drawn again each time, each as likely as any other of its size."""

    kind: Literal["random_ranks"] = "random_ranks"
    needs_chance: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"sparsification_ratio": 0.25, "unsent": "masked", "error_feedback": False},
        {"scope": "module"},
    )

    def energies(self, sending: Sending) -> Floats:
        """Return the energy of the whole update, spread evenly: a draw knows no better pairs."""
        from cosim.learning.pair_energy import delta_energies

        pairs = pairs_of(sending.tensors)
        total = float(delta_energies(pairs, sending.tensors, sending.reference or {}).sum())
        even: Floats = total * pairs.numbers / max(int(pairs.numbers.sum()), 1)
        return even

    def _worth(self, pairs: RankPairs, sending: Sending) -> Floats:
        if sending.seed is None:
            raise ValueError(f"codec {self.kind!r} draws: it needs a seed")
        # energy per number decides, so what is drawn is that
        return stream(sending.seed, "random ranks").generator().random(pairs.count) * pairs.numbers
