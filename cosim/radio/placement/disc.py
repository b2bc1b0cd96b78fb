"""Clients anywhere in a round cell."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.radio.placement import Placement, around, ring_distances
from cosim.rng import Stream
from cosim.units import Floats


class Disc(Placement):
    """Clients uniform in area over a disc, none nearer than ``min_distance_m`` to the base station."""

    kind: Literal["disc"] = "disc"
    radius_m: float = Field(gt=0.0)
    min_distance_m: float = Field(default=1.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"radius_m": 20.0},
        {"radius_m": 500.0, "min_distance_m": 35.0},
    )

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.min_distance_m >= self.radius_m:
            raise ValueError(
                f"min_distance_m {self.min_distance_m:g} leaves no room in a disc "
                f"of radius_m {self.radius_m:g}; make it smaller than the radius"
            )
        return self

    def place(self, stream: Stream, num_clients: int) -> Floats:
        table = stream.uniforms(0, num_clients, 2)
        return around(ring_distances(table[:, 0], self.min_distance_m, self.radius_m), table[:, 1])
