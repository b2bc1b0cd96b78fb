"""What else arrives at a receiver: power of others on the same subchannels."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from cosim.parts import Part, Plane
from cosim.radio.grant import Grant
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from cosim.radio.path import Path


class Interference(Part):
    """Power spectral density of others at a receiver, a pure function of path and time.

    It is added to the noise. Allocators see gains that are scaled down by it.
    """

    plane: ClassVar[Plane] = "time"
    reuses: ClassVar[bool] = False
    """Whether clients of several base stations may send on one subchannel at once, and hear each other."""

    def reused(self, granted: Mapping[int, Grant], cells: Ints) -> Mapping[int, Grant]:
        """Return what each client may use of what was granted, given the base station that serves it."""
        return granted

    def heard(
        self,
        in_use: Mapping[int, Grant],
        cells: Ints,
        station_gains: Floats,
        bandwidths_hz: Floats,
        *,
        is_uplink: bool,
    ) -> dict[int, Floats]:
        """Return what the receiver of each transfer hears of the others, W/Hz, shape (num_subchannels,).

        Parameters
        ----------
        in_use
            Who sends, or is sent to, on which grant.
        cells
            Which base station serves each client, shape (num_clients,).
        station_gains
            Gains before fading, shape (num_clients, num_stations).
        bandwidths_hz
            Width of each subchannel, Hz, shape (num_subchannels,).
        is_uplink
            Whether base stations receive.
        """
        return {}

    @property
    def users_of_each(self) -> int:
        """How many users of other cells it asks a path's network for, for each base station."""
        return 0

    @property
    def block_ns(self) -> int | None:
        """How long it holds, ns; None where it never changes."""
        return None

    @abstractmethod
    def psd_w_per_hz(self, path: "Path", bandwidths_hz: Floats) -> Floats:
        """Return what arrives on each subchannel, W/Hz, in a shape that fits (count, num_subchannels).

        Parameters
        ----------
        path
            Whose receiver it is, where it is and when.
        bandwidths_hz
            Width of each subchannel, Hz, shape (num_subchannels,).
        """
