"""A cell that is alone."""

from typing import Literal

import numpy as np

from cosim.radio.interference import Interference
from cosim.radio.path import Path
from cosim.units import Floats


class NoInterference(Interference):
    """Nobody else sends: there is noise only."""

    kind: Literal["none"] = "none"

    def psd_w_per_hz(self, path: Path, bandwidths_hz: Floats) -> Floats:
        """Return zero."""
        return np.zeros((1, 1))
