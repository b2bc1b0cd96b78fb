"""Channel state information: what a controller knows of a channel, and what it takes to know it."""

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.parts import Part, Plane
from cosim.rng import Stream
from cosim.units import Floats

Complexes = NDArray[np.complex128]

LinkName = Literal["main_uplink", "federated_uplink", "main_downlink", "federated_downlink"]
"""The links of ``[radio]``."""


class Sight(NamedTuple):
    """One link at the instant of a measurement; arrays of shape (num_clients, num_subchannels).

    Attributes
    ----------
    mean_gains
        Gains before fading.
    snr_of_gain
        SNR that a gain of one makes at full power spread evenly over the link, shape (num_clients, 1).
    streams
        Chance of this measurement, one for each client.
    """

    mean_gains: Floats
    snr_of_gain: Floats
    streams: tuple[Stream, ...]


class Csi(Part):
    """What an allocator sees of the gains of a link; the air does not change with it.

    Gains are those that give the right SNR with the noise alone. A part whose pilots or reports take
    time has a sounding ahead of each decision: it takes the air from everybody, and energy.

    ``links``: the links it is of; all, where that is left out. Others are known perfectly.
    """

    plane: ClassVar[Plane] = "time"
    is_perfect: ClassVar[bool] = False
    """Whether gains are known as they are, and free."""

    is_report: ClassVar[bool] = False
    """Whether it is of what is reported, so that nothing is measured behind it."""

    links: tuple[LinkName, ...] | None = Field(default=None, min_length=1)

    def on(self, link: str) -> "Csi | None":
        """Return what of it one link has; None where that is known perfectly."""
        return self if self.links is None or link in self.links else None

    @property
    def delay_ns(self) -> int:
        """How old what is known is when a decision is taken, ns."""
        return 0

    @property
    def pilots_ns(self) -> int:
        """How long the pilots of one sender last, ns."""
        return 0

    @property
    def bits_of_subchannel(self) -> int:
        """Bits in which a client reports one subchannel."""
        return 0

    def report_ns(self, num_subchannels: int) -> int:
        """Return how long a client's report lasts, ns."""
        return 0

    @abstractmethod
    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return what is known of gains, shape (num_clients, num_subchannels).

        Parameters
        ----------
        gains
            What there is to be known: the gains, or what the step before made of them.
        sight
            The link they are of.
        """

    def estimate(self, amplitudes: Complexes, sight: Sight) -> Complexes:
        """Return what is known of complex amplitudes, whose squares are gains.

        Arguments as for :meth:`known`. Phases are known as they are, unless a part says otherwise.
        """
        known = np.sqrt(self.known(np.abs(amplitudes) ** 2, sight))
        return np.asarray(known * np.exp(1j * np.angle(amplitudes)))

    @property
    @abstractmethod
    def description(self) -> str:
        """How gains are known, to stand behind "gains are"."""
