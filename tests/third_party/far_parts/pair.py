"""Base stations: two of them."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.base_stations import BaseStations
from cosim.units import Floats


class Pair(BaseStations):
    """Two base stations on the x axis, one on either side of the origin."""

    kind: Literal["far_pair"] = "far_pair"
    apart_m: float = Field(default=400.0, gt=0.0)

    def positions_m(self) -> Floats:
        """Return both places."""
        return np.array([[-self.apart_m / 2.0, 0.0], [self.apart_m / 2.0, 0.0]])
