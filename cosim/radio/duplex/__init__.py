"""Duplex: when clients send and when they are sent to."""

from abc import abstractmethod
from typing import ClassVar

from cosim.kernel.slots import Slots
from cosim.parts import Part, Plane


class Duplex(Part):
    """Says in which time each direction has the air."""

    plane: ClassVar[Plane] = "time"

    @abstractmethod
    def slots(self, *, is_uplink: bool) -> Slots | None:
        """Return the slots of a direction; None where it has all of the time."""

    def fading_of(self, link: str) -> str:
        """Return the link whose fading a link has."""
        return link

    def share(self, *, is_uplink: bool) -> float:
        """Return the share of the time that a direction has."""
        slots = self.slots(is_uplink=is_uplink)
        return 1.0 if slots is None else slots.open_of_frame_ns / slots.frame_ns

    def open_ns(self, start_ns: int, end_ns: int, *, is_uplink: bool) -> int:
        """Return how much of the time between two instants a direction has, ns."""
        slots = self.slots(is_uplink=is_uplink)
        return end_ns - start_ns if slots is None else slots.open_ns(end_ns) - slots.open_ns(start_ns)
