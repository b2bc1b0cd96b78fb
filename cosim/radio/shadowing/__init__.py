"""Loss behind buildings and hills: one draw for each client, or a field over the plane."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from cosim.parts import Part, Plane
from cosim.radio.geometry import Geometry
from cosim.radio.propagation import Propagation
from cosim.rng import Stream
from cosim.units import Floats


class Shadowing(Part):
    """Loss on top of path loss that depends on the place and not on time or frequency.

    Both servers are reached through every base station, so all links of a client share
    it; client ``i`` gets the same however many clients there are.
    """

    needs_states: ClassVar[bool] = False
    """Whether only a path loss that says in which state a path is goes with it."""

    plane: ClassVar[Plane] = "time"

    @abstractmethod
    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        """Return the extra loss of each client, dB, shape (num_clients,); positive is weaker."""

    def losses_db(self, geometry: Geometry, propagation: Propagation) -> Floats:
        """Return the extra loss between clients and sites, dB, in a shape that fits the distances.

        By default one draw for each client and site, which the client takes along.
        """
        first = geometry.of_clients.child("shadowing")
        streams = [first, *(first.child("station", number) for number in range(1, geometry.num_sites))]
        return np.stack([self.draw_db(one, geometry.num_clients) for one in streams], axis=-1)
