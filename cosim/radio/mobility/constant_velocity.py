"""Clients that go straight on."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S
from cosim.radio.mobility import Mobility
from cosim.rng import Stream
from cosim.units import NS_PER_S, Floats, Ints, seconds_to_ns


class ConstantVelocity(Mobility):
    """Every client keeps its speed and direction for the whole run.

    ``direction_deg`` counts counter-clockwise from the x axis; left out, each client
    has a direction of its own, drawn. A place holds for ``update_s``.
    """

    kind: Literal["constant_velocity"] = "constant_velocity"
    speed_m_per_s: float = Field(gt=0.0, le=1e4)
    direction_deg: float | None = Field(default=None, ge=-360.0, le=360.0)
    update_s: float = Field(default=0.1, ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"speed_m_per_s": 1.5},
        {"speed_m_per_s": 30.0, "direction_deg": 90.0, "update_s": 0.01},
    )

    @property
    def block_ns(self) -> int:
        return seconds_to_ns(self.update_s)

    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        clients = range(len(begin_m))
        if self.direction_deg is None:
            turns = np.array([stream.child(client).uniforms(0, 1, 1)[0, 0] for client in clients])
        else:
            turns = np.full(len(begin_m), self.direction_deg / 360.0)
        ahead = np.stack([np.cos(2.0 * np.pi * turns), np.sin(2.0 * np.pi * turns)], axis=1)
        gone_m = self.travelled_m(begin_m, stream, time_ns)
        return np.asarray(begin_m + gone_m[..., np.newaxis] * ahead)

    def travelled_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        gone_m = self.speed_m_per_s * (time_ns / NS_PER_S)
        return np.broadcast_to(gone_m[:, np.newaxis], (len(time_ns), len(begin_m)))
