"""Where the base stations are, and which of them serves a client."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cosim.parts import Part, Plane
from cosim.units import Floats, Ints


class BaseStations(Part):
    """One or more base stations; all of them reach both servers.

    Each site has path loss and shadowing of its own to every client; base stations
    of one site are its sectors. The spectrum of a link is the same at all of them, and
    a subchannel has one sender at a time wherever that sender is served.
    """

    plane: ClassVar[Plane] = "time"

    @property
    def hysteresis_db(self) -> float:
        """How much stronger another one must be for a handover, dB."""
        return 0.0

    @property
    def peak_gain_db(self) -> float | None:
        """The largest gain of an antenna of theirs, dBi; None where the radio's settings have it all."""
        return None

    @abstractmethod
    def positions_m(self) -> Floats:
        """Return where they are, m, shape (num_stations, 2)."""

    def sites_m(self) -> Floats:
        """Return where the sites are, m, shape (num_sites, 2); by default, each station is one."""
        return self.positions_m()

    def site_of_station(self) -> Ints:
        """Return the number of the site of each station, shape (num_stations,)."""
        return np.arange(len(self.positions_m()))

    def nearest_m(self, away_m: Floats) -> Floats:
        """Return ways from sites to clients, m, shape (..., 2), each from the nearest image of its site."""
        return away_m

    def covers(self, positions_m: Floats) -> NDArray[np.bool_]:
        """Return whether places are in the layout, shape (...), for places of shape (..., 2)."""
        return np.ones(positions_m.shape[:-1], dtype=np.bool_)

    def gains_db(self, away_m: Floats, heights_m: Floats | float) -> Floats | float:
        """Return the gains of the stations' antennas towards the clients, dB.

        Parameters
        ----------
        away_m
            From each station to each client, m, shape (num_instants, num_clients, num_stations, 2).
        heights_m
            How much higher the client is, m, in a shape that fits (num_instants, num_clients, num_stations).
        """
        return 0.0

    def serving(self, mean_gains: Floats) -> Ints:
        """Return which station serves each client, shape (num_instants, num_clients).

        The one of the largest gain before fading, unless a part decides otherwise.

        Parameters
        ----------
        mean_gains
            Linear power gains before fading, shape (num_instants, num_clients, num_stations).
        """
        return np.asarray(mean_gains.argmax(axis=-1))
