"""What rate a signal quality allows."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from cosim.parts import Part, Plane
from cosim.units import Floats

_ONE_BY_ONE = 8  # fewer numbers are added one after the other


class RateModel(Part):
    """The rate from the SNR and width of the subchannels a client owns, never decreasing in the SNR."""

    plane: ClassVar[Plane] = "time"
    adds_subchannels: ClassVar[bool] = False
    """Whether the rate of a grant is the sum of what each subchannel carries, whatever else is granted."""

    @property
    def rung(self) -> str:
        """What it takes for granted, in a few words."""
        return self.kind

    @abstractmethod
    def per_subchannel(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        """Return the rate of each subchannel of a grant, bit/s, shape (..., num_owned).

        Parameters
        ----------
        snr
            Signal to noise power ratio, linear, shape (..., num_owned).
        bandwidth_hz
            Width of each subchannel, Hz, shape (num_owned,).
        """

    def rates(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        """Return the rate of the whole grant, bit/s, shape (...); no subchannel gives no rate."""
        return added(self.per_subchannel(snr, bandwidth_hz))


def added(each: Floats) -> Floats:
    """Return sums over the last axis, to the same bits in whatever order the memory has the axes.

    Those of numpy over contiguous numbers, which adds fewer than eight one after the other; so done for
    all sums at once, they take an eighth of its time.
    """
    if not 0 < each.shape[-1] < _ONE_BY_ONE:
        summed: Floats = np.ascontiguousarray(each).sum(axis=-1)
        return summed
    total: Floats = each[..., 0] + 0.0
    for place in range(1, each.shape[-1]):
        total = total + each[..., place]
    return total
