"""Clients between two circles around the base station."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.radio.placement import Placement, around, ring_distances
from cosim.rng import Stream
from cosim.units import Floats


class Annulus(Placement):
    """Clients between two circles, uniform in area or in their distance.

    Uniform in ``distance`` crowds clients towards the base station; papers that
    write "d ~ U[50, 300] m" mean this.
    """

    kind: Literal["annulus"] = "annulus"
    inner_m: float = Field(gt=0.0)
    outer_m: float = Field(gt=0.0)
    uniform_in: Literal["area", "distance"] = "area"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"inner_m": 50.0, "outer_m": 300.0},
        {"inner_m": 50.0, "outer_m": 300.0, "uniform_in": "distance"},
        {"inner_m": 100.0, "outer_m": 100.0},
    )

    @model_validator(mode="after")
    def _inner_is_inside(self) -> Self:
        if self.inner_m > self.outer_m:
            raise ValueError(
                f"inner_m {self.inner_m:g} lies outside outer_m {self.outer_m:g}; "
                "make it at most the outer radius"
            )
        return self

    def place(self, stream: Stream, num_clients: int) -> Floats:
        table = stream.uniforms(0, num_clients, 2)
        if self.uniform_in == "area":
            distance = ring_distances(table[:, 0], self.inner_m, self.outer_m)
        else:
            distance = self.inner_m + table[:, 0] * (self.outer_m - self.inner_m)
        return around(distance, table[:, 1])
