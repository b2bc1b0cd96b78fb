"""What else arrives at a receiver: power of others on the same subchannels."""

from abc import abstractmethod
from typing import ClassVar

from cosim.parts import Part, Plane
from cosim.radio.path import Path
from cosim.units import Floats


class Interference(Part):
    """Power spectral density of others at a receiver, a pure function of path and time.

    It is added to the noise. Allocators see gains that are scaled down by it.
    """

    plane: ClassVar[Plane] = "time"

    @property
    def users_of_each(self) -> int:
        """How many users of other cells it asks a path's network for, for each base station."""
        return 0

    @property
    def block_ns(self) -> int | None:
        """How long it holds, ns; None where it never changes."""
        return None

    @abstractmethod
    def psd_w_per_hz(self, path: Path, bandwidths_hz: Floats) -> Floats:
        """Return what arrives on each subchannel, W/Hz, in a shape that fits (count, num_subchannels).

        Parameters
        ----------
        path
            Whose receiver it is, where it is and when.
        bandwidths_hz
            Width of each subchannel, Hz, shape (num_subchannels,).
        """
