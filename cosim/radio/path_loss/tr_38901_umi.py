"""Street canyons."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.path_loss.tr_38901 import Way
from cosim.radio.path_loss.tr_38901_outdoors import Tr38901Outdoors
from cosim.units import SPEED_OF_LIGHT_M_PER_S, Floats


class UrbanMicro(Tr38901Outdoors):
    """UMi street canyon of TR 38.901: base stations below the rooftops, at 10 m.

    Source
    ------
    3GPP TR 38.901 V19.2, Tables 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2.
    """

    kind: Literal["tr_38901_umi"] = "tr_38901_umi"
    min_distance_m: float = Field(default=10.0, gt=0.0)
    station_height_m: float = Field(default=10.0, gt=0.0, le=1000.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"line_of_sight": "never", "spatially_consistent": False},
    )
    shadowing_correlation_m: ClassVar[tuple[float, float]] = (10.0, 13.0)
    indoor_std_db: ClassVar[float] = 7.0
    indoor_correlation_m: ClassVar[float] = 7.0
    max_depth_m: ClassVar[float] = 25.0

    def los_correlation_m(self) -> float:
        return 50.0

    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        far_m = np.maximum(distance_m, 18.0)
        return np.asarray(18.0 / far_m + np.exp(-far_m / 36.0) * (1.0 - 18.0 / far_m))

    def los_db(self, way: Way) -> Floats:
        station_m, client_m = self.station_height_m, way.height_m
        away_m, log_ghz = self.distance_3d_m(way), np.log10(way.carrier_ghz)
        breakpoint_m = 4.0 * (station_m - 1.0) * (client_m - 1.0) * way.carrier_hz / SPEED_OF_LIGHT_M_PER_S
        near_db = 32.4 + 21.0 * np.log10(away_m) + 20.0 * log_ghz
        corner = breakpoint_m**2 + (station_m - client_m) ** 2
        far_db = 32.4 + 40.0 * np.log10(away_m) + 20.0 * log_ghz - 9.5 * np.log10(corner)
        return np.asarray(np.where(way.distance_m < breakpoint_m, near_db, far_db))

    def nlos_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        loss_db = 35.3 * log_away + 22.4 + 21.3 * log_ghz - 0.3 * (way.height_m - 1.5)
        return np.asarray(np.maximum(self.los_db(way), loss_db))

    def shadowing_std_db(self, way: Way) -> tuple[float, float]:
        return 4.0, 7.82
