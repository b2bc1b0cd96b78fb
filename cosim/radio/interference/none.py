"""A cell that is alone."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from cosim.radio.interference import Interference
from cosim.units import Floats

if TYPE_CHECKING:
    from cosim.radio.path import Path


class NoInterference(Interference):
    """Nobody else sends: there is noise only."""

    kind: Literal["none"] = "none"

    def psd_w_per_hz(self, path: "Path", bandwidths_hz: Floats) -> Floats:
        """Return zero."""
        return np.zeros((1, 1))
