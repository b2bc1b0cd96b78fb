"""Placement: along a street."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.placement import Placement
from cosim.rng import Stream
from cosim.units import Floats


class Street(Placement):
    """Clients anywhere along a straight street that passes the base station at ``away_m``."""

    kind: Literal["far_street"] = "far_street"
    length_m: float = Field(default=400.0, gt=0.0)
    away_m: float = Field(default=20.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"length_m": 50.0, "away_m": 5.0})

    def place(self, stream: Stream, num_clients: int) -> Floats:
        """Return places of one y, and an x of their own."""
        along = stream.uniforms(0, num_clients, 1)[:, 0] - 0.5
        return np.stack([self.length_m * along, np.full(num_clients, self.away_m)], axis=1)
