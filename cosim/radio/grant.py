"""A grant: the subchannels of one client on one link, and the power on each."""

from dataclasses import dataclass

import numpy as np

from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Grant:
    """What one client may use of one link.

    Attributes
    ----------
    subchannels
        Subchannels granted, ascending, shape (num_owned,).
    tx_power_w
        Transmit power on each, W, shape (num_owned,).
    """

    subchannels: Ints
    tx_power_w: Floats

    @property
    def total_tx_power_w(self) -> float:
        """Power over all subchannels, W."""
        return float(self.tx_power_w.sum())

    @classmethod
    def spread(cls, subchannels: Ints, total_tx_power_w: float) -> "Grant":
        """Return a grant with the power spread evenly over the subchannels."""
        share = total_tx_power_w / max(len(subchannels), 1)
        return cls(np.sort(subchannels), np.full(len(subchannels), share))
