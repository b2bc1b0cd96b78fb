"""Mobility: straight on."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.mobility import Mobility
from cosim.rng import Stream
from cosim.units import Floats, Ints, seconds_to_ns


class Drift(Mobility):
    """Every client goes straight on in a direction of its own."""

    kind: Literal["far_drift"] = "far_drift"
    speed_m_per_s: float = Field(default=1.5, ge=0.0)
    update_s: float = Field(default=0.1, ge=1e-6, le=1e6)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"speed_m_per_s": 30.0, "update_s": 0.01})

    @property
    def block_ns(self) -> int:
        """How long a place holds."""
        return seconds_to_ns(self.update_s)

    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        """Return the places after so much time at a constant speed."""
        turns = np.array([stream.child(client).uniforms(0, 1, 1)[0, 0] for client in range(len(begin_m))])
        direction = np.stack([np.cos(2.0 * np.pi * turns), np.sin(2.0 * np.pi * turns)], axis=1)
        moved_m = self.speed_m_per_s * np.asarray(time_ns)[:, None, None] / 1e9 * direction
        return np.asarray(begin_m + moved_m)
