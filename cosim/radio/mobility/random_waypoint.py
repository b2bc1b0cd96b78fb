"""Clients that go from one place to the next."""

from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.parts import LONGEST_S
from cosim.radio.mobility import Mobility
from cosim.radio.mobility.polyline import Polyline
from cosim.rng import Stream
from cosim.units import NS_PER_S, Floats, Ints, seconds_to_ns

_FEWEST_LEGS = 16


class RandomWaypoint(Mobility):
    """Each client goes straight to a place uniform in a disc around the origin, pauses, and goes on.

    The speed of a leg is uniform between ``min_speed_m_per_s`` and ``max_speed_m_per_s``. A client
    begins a leg where the placement put it. As always with this model, clients are more
    often near the middle after a while, and slower than the mean of the speeds; a
    smallest speed above zero keeps the latter from going on for ever.

    Source
    ------
    D. B. Johnson and D. A. Maltz, "Dynamic source routing in ad hoc wireless networks", in
    Mobile Computing, Kluwer, 1996; J. Yoon et al., "Random waypoint considered harmful",
    IEEE INFOCOM 2003.
    """

    kind: Literal["random_waypoint"] = "random_waypoint"
    radius_m: float = Field(gt=0.0, le=1e6)
    min_speed_m_per_s: float = Field(default=0.5, gt=0.0, le=1e4)
    max_speed_m_per_s: float = Field(default=1.5, gt=0.0, le=1e4)
    pause_s: float = Field(default=0.0, ge=0.0, le=LONGEST_S)
    update_s: float = Field(default=0.1, ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"radius_m": 250.0},
        {"radius_m": 20.0, "min_speed_m_per_s": 10.0, "max_speed_m_per_s": 30.0, "pause_s": 0.5},
    )

    @model_validator(mode="after")
    def _speeds_in_order_and_room(self) -> Self:
        if self.min_speed_m_per_s > self.max_speed_m_per_s:
            raise ValueError(
                f"min_speed_m_per_s {self.min_speed_m_per_s:g} is above max_speed_m_per_s "
                f"{self.max_speed_m_per_s:g}; make it at most that"
            )
        if self.radius_m < self.max_speed_m_per_s * self.update_s:
            raise ValueError(
                f"radius_m {self.radius_m:g} is gone within one update_s {self.update_s:g}; make it larger, "
                "or the update shorter"
            )
        return self

    @property
    def block_ns(self) -> int:
        return seconds_to_ns(self.update_s)

    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        time_s = time_ns / NS_PER_S
        ways = self._ways(begin_m, stream, time_s)
        return np.stack([way.at(time_s) for way in ways], axis=1)

    def travelled_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        time_s = time_ns / NS_PER_S
        ways = self._ways(begin_m, stream, time_s)
        return np.stack([way.travelled_m(time_s) for way in ways], axis=1)

    def _ways(self, begin_m: Floats, stream: Stream, time_s: Floats) -> list[Polyline]:
        until_s = float(time_s.max(initial=0.0))
        starts = [(float(x), float(y)) for x, y in begin_m]
        return [self._way(start, stream.child(client), until_s) for client, start in enumerate(starts)]

    def _way(self, start: tuple[float, float], stream: Stream, until_s: float) -> Polyline:
        """Return a client's way that lasts at least so long; a leg is the same on any way that has it."""
        legs = _FEWEST_LEGS
        while (way := _walk(self, start, stream, legs)).time_s[-1] < until_s:
            legs *= 2
        return way


@lru_cache(maxsize=1024)
def _walk(mobility: RandomWaypoint, start: tuple[float, float], stream: Stream, legs: int) -> Polyline:
    table = stream.uniforms(0, legs, 3)
    away_m = mobility.radius_m * np.sqrt(table[:, 0])
    turned = 2.0 * np.pi * table[:, 1]
    goals_m = np.stack([away_m * np.cos(turned), away_m * np.sin(turned)], axis=1)
    corners_m = np.concatenate([[start], goals_m])
    slow, fast = mobility.min_speed_m_per_s, mobility.max_speed_m_per_s
    lasting_s = np.hypot(*np.diff(corners_m, axis=0).T) / (slow + table[:, 2] * (fast - slow))
    # each goal twice: when it is reached, and when the pause there is over
    steps_s = np.stack([lasting_s, np.full(legs, mobility.pause_s)], axis=1).reshape(-1)
    time_s = np.concatenate([[0.0], np.cumsum(steps_s)])
    return Polyline(time_s, np.concatenate([corners_m[:1], np.repeat(corners_m[1:], 2, axis=0)]))
