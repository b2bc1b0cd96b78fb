"""Clients that stay where they are."""

from typing import Literal

import numpy as np

from cosim.radio.mobility import Mobility
from cosim.rng import Stream
from cosim.units import Floats, Ints


class Static(Mobility):
    """Every client stays where the placement put it."""

    kind: Literal["static"] = "static"

    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        """Return the places at the beginning, for every instant."""
        return np.broadcast_to(begin_m, (len(time_ns), *begin_m.shape))
