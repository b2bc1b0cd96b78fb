"""Surface: a wall that reflects nearby."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.path import Path
from cosim.radio.surface import Surface
from cosim.units import Floats


class Mirror(Surface):
    """A wall whose reflection adds in phase to the direct path of clients near it."""

    kind: Literal["far_mirror"] = "far_mirror"
    x_m: float = 100.0
    y_m: float = 0.0
    radius_m: float = Field(default=200.0, gt=0.0)
    amplitude: float = Field(default=0.5, ge=0.0, le=1.0)

    def gains(self, path: Path, direct: Floats) -> Floats:
        """Return gains whose amplitude is larger within the radius."""
        is_near = np.hypot(*(path.client_m - [self.x_m, self.y_m]).T) <= self.radius_m
        return np.asarray(direct * np.where(is_near, (1.0 + self.amplitude) ** 2, 1.0)[:, None])
