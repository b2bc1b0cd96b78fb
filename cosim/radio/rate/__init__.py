"""What rate a signal quality allows."""

from abc import abstractmethod
from typing import ClassVar

from cosim.parts import Part, Plane
from cosim.units import Floats


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
        total: Floats = self.per_subchannel(snr, bandwidth_hz).sum(axis=-1)
        return total
