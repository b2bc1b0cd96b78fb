"""Access: a sender that is alone has the band."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from cosim.radio.access import Access
from cosim.radio.grant import Grant


class Alone(Access):
    """A client that sends alone uses every subchannel that was granted; several keep to their own."""

    kind: Literal["far_alone"] = "far_alone"
    changes_in_flight: ClassVar[bool] = True

    def in_use(self, granted: Mapping[int, Grant], active: Sequence[int]) -> dict[int, Grant]:
        """Return the grants of those who send, or the whole band for one, at its own power."""
        if len(active) != 1:
            return {client: granted[client] for client in active}
        (client,) = active
        band = np.unique(np.concatenate([grant.subchannels for grant in granted.values()]))
        return {client: Grant.spread(band, granted[client].total_tx_power_w)}
