"""The one base station of a cell."""

from typing import Literal

import numpy as np

from cosim.radio.base_stations import BaseStations
from cosim.units import Floats


class Single(BaseStations):
    """One base station at the origin, around which the placement puts the clients."""

    kind: Literal["single"] = "single"

    def positions_m(self) -> Floats:
        """Return the origin."""
        return np.zeros((1, 2))
