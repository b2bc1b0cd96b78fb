"""Precoding: one at a time."""

from typing import Literal

import numpy as np

from cosim.radio.precoding import Precoded, Precoding, Senders


class Loudest(Precoding):
    """On each element the sender with the most power over its channel sends, and nobody else."""

    kind: Literal["far_loudest"] = "far_loudest"

    def precode(self, senders: Senders) -> Precoded:
        """Return a weight of one for the loudest."""
        wanted = (senders.weights > 0.0)[:, None, None]
        arriving_w = np.where(wanted, senders.tx_power_w[:, None, None] * senders.gains, 0.0)
        is_loudest = np.arange(len(arriving_w))[:, None, None] == arriving_w.argmax(axis=0)
        return Precoded(np.where(is_loudest & (arriving_w > 0.0), 1.0, 0.0), arriving_w.max(axis=0))
