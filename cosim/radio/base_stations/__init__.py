"""Where the base stations are, and which of them serves a client."""

from abc import abstractmethod

import numpy as np

from cosim.parts import Part
from cosim.units import Floats, Ints


class BaseStations(Part):
    """One or more base stations; all of them reach both servers.

    Each has path loss and shadowing of its own to every client. The spectrum of
    a link is the same at all of them, and a subchannel has one sender at a time
    wherever that sender is served.
    """

    @abstractmethod
    def positions_m(self) -> Floats:
        """Return where they are, m, shape (num_stations, 2)."""

    def serving(self, mean_gains: Floats) -> Ints:
        """Return which station serves each client, shape (num_instants, num_clients).

        The one of the largest gain before fading, unless a part decides otherwise.

        Parameters
        ----------
        mean_gains
            Linear power gains before fading, shape (num_instants, num_clients, num_stations).
        """
        return np.asarray(mean_gains.argmax(axis=-1))
