"""Clients anywhere in a hexagonal plan of cells."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.radio import hexagons
from cosim.radio.placement import Placement
from cosim.rng import Stream
from cosim.units import Floats

_TRIES = (
    64  # a try fails with at most the share of a hexagon that is too near, or 1/4 of a rectangle's corners
)


class HexagonalPlacement(Placement):
    """Clients uniform in area over the hexagons of a plan, none nearer than ``min_distance_m`` to its site.

    Goes with base stations of the kind ``hexagonal`` of the same distance and rings.
    """

    kind: Literal["hexagonal"] = "hexagonal"
    inter_site_distance_m: float = Field(default=500.0, gt=0.0)
    num_rings: int = Field(default=2, ge=0, le=20)
    min_distance_m: float = Field(default=35.0, ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"inter_site_distance_m": 200.0, "num_rings": 0, "min_distance_m": 10.0},
    )

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.min_distance_m > 0.4 * self.inter_site_distance_m:
            raise ValueError(
                f"min_distance_m {self.min_distance_m:g} leaves too little room in hexagons "
                f"{self.inter_site_distance_m:g} m across; make it at most 0.4 of that"
            )
        return self

    def place(self, stream: Stream, num_clients: int) -> Floats:
        sites = hexagons.sites_m(self.inter_site_distance_m, self.num_rings)
        table = stream.uniforms(0, num_clients, 1 + 2 * _TRIES)
        site = np.minimum((table[:, 0] * len(sites)).astype(np.int64), len(sites) - 1)
        tries = table[:, 1:].reshape(num_clients, _TRIES, 2) - 0.5
        # the box around a hexagon whose flat sides are left and right
        offsets_m = tries * [self.inter_site_distance_m, self.inter_site_distance_m * 2.0 / np.sqrt(3.0)]
        is_good = hexagons.is_inside(offsets_m, self.inter_site_distance_m, 0)
        is_good &= np.hypot(offsets_m[..., 0], offsets_m[..., 1]) >= max(self.min_distance_m, 1e-9)
        first = is_good.argmax(axis=1)
        return np.asarray(sites[site] + offsets_m[np.arange(num_clients), first])
