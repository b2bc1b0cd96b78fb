"""Interference: one source of noise at a place."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.interference import Interference
from cosim.radio.path import Path
from cosim.units import Floats


class Jammer(Interference):
    """A source of white noise at a place, whose power falls with the square of the distance."""

    kind: Literal["far_jammer"] = "far_jammer"
    x_m: float = 500.0
    y_m: float = 0.0
    psd_at_1m_w_per_hz: float = Field(default=1e-17, ge=0.0)

    def psd_w_per_hz(self, path: Path, bandwidths_hz: Floats) -> Floats:
        """Return the same density on all subchannels; nearer than a metre counts as a metre."""
        away_m = np.hypot(*(path.receiver_m - [self.x_m, self.y_m]).T)
        return np.asarray(self.psd_at_1m_w_per_hz / np.maximum(away_m, 1.0) ** 2)[:, None]
