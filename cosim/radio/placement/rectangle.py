"""Clients anywhere in a hall."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.placement import Placement
from cosim.rng import Stream
from cosim.units import Floats


class Rectangle(Placement):
    """Clients uniform in area over a rectangle around the origin."""

    kind: Literal["rectangle"] = "rectangle"
    length_m: float = Field(gt=0.0)
    width_m: float = Field(gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"length_m": 120.0, "width_m": 50.0},)

    def place(self, stream: Stream, num_clients: int) -> Floats:
        return np.asarray((stream.uniforms(0, num_clients, 2) - 0.5) * [self.length_m, self.width_m])
