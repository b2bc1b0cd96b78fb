"""Precoding by the knowledge of all channels."""

from typing import ClassVar, Literal

import numpy as np

from cosim.radio.precoding import Precoded, Precoding, Senders


class ZeroForcing(Precoding):
    """All arrive with the weight that is wanted: each inverts its channel, times a factor common to all.

    The factor is the largest that keeps everybody within its power, so the weakest
    for its weight sets the noise; who is in a deep fade is silent. The base station
    knows all channels: each sender reports its gain and hears the factor, which the medium
    charges with ``channel_knowledge = "charged"``, and the sum is divided by that of the
    weights of those who send.

    Source
    ------
    The factor ``min power gain / weight^2`` is that of OTA-FFL, arXiv 2501.03392
    (method card 2, re-derived). Silence in a fade is that of G. Zhu, Y. Wang and K.
    Huang, "Broadband analog aggregation for low-latency federated edge learning",
    IEEE Trans. Wireless Commun. 19(1), 2020; theirs is of each subcarrier by itself.
    """

    kind: Literal["zero_forcing"] = "zero_forcing"
    num_scalars: ClassVar[int] = 1

    def precode(self, senders: Senders) -> Precoded:
        """Return the weights that are wanted of those who send, adding up to one."""
        wanted = senders.weights[:, None, None] * senders.is_heard
        total = wanted.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.where(total > 0.0, wanted / total, 0.0)
            within = senders.tx_power_w[:, None, None] * senders.harmonic_gains / weights**2
        received_w = np.where(weights > 0.0, within, np.inf).min(axis=0)
        return Precoded(
            np.broadcast_to(weights, senders.gains.shape),
            np.broadcast_to(np.where(total > 0.0, received_w, 0.0), senders.shares.shape),
        )
