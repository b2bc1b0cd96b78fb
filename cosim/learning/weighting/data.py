"""By data."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from cosim.learning.weighting import Sender, Weighting, shares


class ByData(Weighting):
    """Each sender counts by its training examples, as in FedAvg."""

    kind: Literal["data"] = "data"
    is_by_data: ClassVar[bool] = True

    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return shares in the examples."""
        return shares([one.num_examples for one in senders])


BY_DATA = ByData.default()
"""How senders count where nothing else is said."""
