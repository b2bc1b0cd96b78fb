"""Weighting: by the square root of the data."""

from collections.abc import Sequence
from math import sqrt
from typing import Literal

from cosim.learning.weighting import Sender, Weighting, shares


class Rooted(Weighting):
    """Each sender counts by the square root of its examples."""

    kind: Literal["far_rooted"] = "far_rooted"

    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return shares in the roots."""
        return shares([sqrt(one.num_examples) for one in senders])
