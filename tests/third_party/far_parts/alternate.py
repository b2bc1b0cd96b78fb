"""Duplex: one half of every frame for each direction."""

from typing import Literal

from pydantic import Field

from cosim.kernel.slots import Slots
from cosim.radio.duplex import Duplex
from cosim.units import seconds_to_ns


class Alternate(Duplex):
    """Uplinks have the first half of a frame, downlinks the second."""

    kind: Literal["far_alternate"] = "far_alternate"
    half_s: float = Field(default=0.01, ge=1e-6, le=1e3)

    def slots(self, *, is_uplink: bool) -> Slots:
        """Return the half of a direction."""
        return Slots(seconds_to_ns(self.half_s), (is_uplink, not is_uplink))
