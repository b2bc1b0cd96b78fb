"""Loss behind buildings and hills: one draw for each client, kept for the whole run."""

from abc import abstractmethod
from typing import ClassVar

from cosim.parts import Part, Plane
from cosim.rng import Stream
from cosim.units import Floats


class Shadowing(Part):
    """Loss on top of path loss that depends on the place and not on time or frequency.

    Both servers stand at one site, so a client has one draw, shared by all its
    links; client ``i`` gets the same one however many clients there are.
    """

    plane: ClassVar[Plane] = "time"

    @abstractmethod
    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        """Return the extra loss of each client, dB, shape (num_clients,); positive is weaker."""
