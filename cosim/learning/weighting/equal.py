"""All alike."""

from collections.abc import Sequence
from typing import Literal

from cosim.learning.weighting import Sender, Weighting, shares


class Equal(Weighting):
    """Each sender counts the same, however much data it holds."""

    kind: Literal["equal"] = "equal"

    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return one over their number."""
        return shares([1.0] * len(senders))
