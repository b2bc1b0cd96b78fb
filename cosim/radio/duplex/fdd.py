"""Frequency division: both directions have all of the time, on bands of their own."""

from typing import Literal

from cosim.kernel.slots import Slots
from cosim.radio.duplex import Duplex


class Fdd(Duplex):
    """Every link has its own band, as the scenario gives it, at all times."""

    kind: Literal["fdd"] = "fdd"

    def slots(self, *, is_uplink: bool) -> Slots | None:
        """Return none: there is no time it does not have."""
        return None
