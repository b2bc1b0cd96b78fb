"""Sites of a hexagonal plan."""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.radio import hexagons
from cosim.radio.sectors import Sectored
from cosim.units import Floats


class Hexagonal(Sectored):
    """One site at the origin and rings of others around it: 7 with one ring, 19 with two.

    ``wrap_around``: the layout repeats itself in all directions, so that every cell has
    as many neighbours as the one in the middle; a site is met from its nearest image.

    Source
    ------
    3GPP TR 38.901 V19.2, Table 7.8-1 (19 sites, three sectors, distance-based wrapping).
    """

    kind: Literal["hexagonal"] = "hexagonal"
    inter_site_distance_m: float = Field(default=500.0, gt=0.0)
    num_rings: int = Field(default=2, ge=0, le=20)
    wrap_around: bool = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"inter_site_distance_m": 200.0, "num_rings": 1, "wrap_around": False, "handover_hysteresis_db": 3.0},
        {"num_rings": 0, "antenna": "isotropic"},
        {"num_sectors": 1, "num_rings": 1, "downtilt_deg": 20.0},
    )

    def sites_m(self) -> Floats:
        return hexagons.sites_m(self.inter_site_distance_m, self.num_rings)

    def nearest_m(self, away_m: Floats) -> Floats:
        if not self.wrap_around:
            return away_m
        return hexagons.nearest_m(away_m, self.inter_site_distance_m, self.num_rings)

    def covers(self, positions_m: Floats) -> NDArray[np.bool_]:
        return hexagons.is_inside(positions_m, self.inter_site_distance_m, self.num_rings)
