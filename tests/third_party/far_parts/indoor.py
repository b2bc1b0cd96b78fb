"""Shadowing: some are indoors."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.shadowing import Shadowing
from cosim.rng import Stream
from cosim.units import Floats


class Indoor(Shadowing):
    """A share of the clients is behind a wall that takes ``wall_db``."""

    kind: Literal["far_indoor"] = "far_indoor"
    share: float = Field(default=0.8, ge=0.0, le=1.0)
    wall_db: float = Field(default=10.0, ge=0.0, le=100.0)

    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        """Return the wall's loss for those who are drawn."""
        is_indoors = stream.uniforms(0, num_clients, 1)[:, 0] < self.share
        return np.where(is_indoors, self.wall_db, 0.0)
