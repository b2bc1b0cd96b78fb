"""Where the clients are, in metres around the base station."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from cosim.parts import Part, Plane
from cosim.rng import Stream
from cosim.units import Floats


class Placement(Part):
    """Puts clients on a plane whose origin is the base station.

    The main server and the federated server both sit at the base station.
    Client ``i`` is at one place however many clients there are.
    """

    plane: ClassVar[Plane] = "time"

    @property
    def num_places(self) -> int | None:
        """How many clients there must be; None where any number can be placed."""
        return None

    @abstractmethod
    def place(self, stream: Stream, num_clients: int) -> Floats:
        """Return the clients' positions, m, shape (num_clients, 2)."""


def around(distance_m: Floats, turns: Floats) -> Floats:
    """Return the positions at these distances and directions, m, shape (num_clients, 2).

    ``turns`` counts whole turns from the x axis, so that 0.25 is due north.
    """
    angle = 2.0 * np.pi * turns
    return np.stack([distance_m * np.cos(angle), distance_m * np.sin(angle)], axis=1)


def ring_distances(uniforms: Floats, inner_m: float, outer_m: float) -> Floats:
    """Return distances that make points uniform in area between two circles, m."""
    inner, outer = inner_m**2, outer_m**2
    return np.asarray(np.sqrt(inner + uniforms * (outer - inner)))
