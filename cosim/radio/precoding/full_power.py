"""Precoding that only aligns phases."""

from typing import ClassVar, Literal

import numpy as np

from cosim.radio.precoding import Precoded, Precoding, Senders


class FullPower(Precoding):
    """Everybody sends with all its power, its phase turned so that amplitudes add.

    What weight a client has in the sum is then what its power and its channel make
    of it: the weights of the aggregator do not count, and nobody is silent but those
    whose weight is zero. The least noise of all precodings, and the most bias. The
    base station knows the sum of the amplitudes, and divides by it.
    """

    kind: Literal["full_power"] = "full_power"
    truncates: ClassVar[bool] = False

    def precode(self, senders: Senders) -> Precoded:
        """Return each sender's share in the sum of the amplitudes."""
        sends = (senders.weights > 0.0).astype(float)
        amplitudes = np.sqrt((sends * senders.tx_power_w)[:, None, None] * senders.gains)
        total = amplitudes.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return Precoded(np.where(total > 0.0, amplitudes / total, 0.0), total**2)
