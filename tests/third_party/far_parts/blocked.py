"""Fading: obstacles that come and go."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.fading import BlockFading
from cosim.rng import Stream
from cosim.units import Floats, db_to_linear


class Blocked(BlockFading):
    """In a share of the blocks something is in the way and takes ``depth_db``; the mean gain is one."""

    kind: Literal["far_blocked"] = "far_blocked"
    share: float = Field(default=0.5, gt=0.0, lt=1.0)
    depth_db: float = Field(default=10.0, ge=0.0, le=100.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"coherence_time_s": 0.01, "share": 0.3, "depth_db": 3.0},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        """Return one of two gains for each block and subchannel."""
        low = 1.0 / db_to_linear(self.depth_db)
        gains = np.where(stream.uniforms(first, count, width) < self.share, low, 1.0)
        return np.asarray(gains / (self.share * low + 1.0 - self.share))
