"""Rural macro cells."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.path_loss.tr_38901 import Way
from cosim.radio.path_loss.tr_38901_outdoors import Tr38901Outdoors
from cosim.units import SPEED_OF_LIGHT_M_PER_S, Floats


class RuralMacro(Tr38901Outdoors):
    """RMa of TR 38.901: base stations at 35 m, low buildings of low loss, cars; up to 30 GHz.

    ``building_height_m`` and ``street_width_m`` are averages over the area.

    Source
    ------
    3GPP TR 38.901 V19.2, Tables 7.2-3, 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2.
    """

    kind: Literal["tr_38901_rma"] = "tr_38901_rma"
    min_distance_m: float = Field(default=10.0, gt=0.0)
    station_height_m: float = Field(default=35.0, gt=0.0, le=1000.0)
    indoor_share: float = Field(default=0.5, ge=0.0, le=1.0)
    high_loss_share: float = Field(default=0.0, ge=0.0, le=1.0)
    car_share: float = Field(default=1.0, ge=0.0, le=1.0)
    building_height_m: float = Field(default=5.0, ge=5.0, le=50.0)
    street_width_m: float = Field(default=20.0, ge=5.0, le=50.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"building_height_m": 10.0, "street_width_m": 30.0, "line_of_sight": "never"},
    )
    carrier_range_hz: ClassVar[tuple[float, float] | None] = (0.5e9, 30e9)
    shadowing_correlation_m: ClassVar[tuple[float, float]] = (37.0, 120.0)
    indoor_std_db: ClassVar[float] = 8.0
    indoor_correlation_m: ClassVar[float] = 120.0
    max_depth_m: ClassVar[float] = 10.0
    has_floors: ClassVar[bool] = False

    def los_correlation_m(self) -> float:
        return 60.0

    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        return np.exp(-(np.maximum(distance_m, 10.0) - 10.0) / 1000.0)

    def los_db(self, way: Way) -> Floats:
        away_m, breakpoint_m = self.distance_3d_m(way), self._breakpoint_m(way)
        beyond_db = 40.0 * np.log10(away_m / breakpoint_m)
        near_db, at_breakpoint_db = self._near_db(away_m, way), self._near_db(np.asarray(breakpoint_m), way)
        return np.where(way.distance_m < breakpoint_m, near_db, at_breakpoint_db + beyond_db)

    def nlos_db(self, way: Way) -> Floats:
        roofs_m, station_m = self.building_height_m, self.station_height_m
        log_station = np.log10(station_m)
        loss_db = (
            161.04
            - 7.1 * np.log10(self.street_width_m)
            + 7.5 * np.log10(roofs_m)
            - (24.37 - 3.7 * (roofs_m / station_m) ** 2) * log_station
            + (43.42 - 3.1 * log_station) * (np.log10(self.distance_3d_m(way)) - 3.0)
            + 20.0 * np.log10(way.carrier_ghz)
            - (3.2 * np.log10(11.75 * way.height_m) ** 2 - 4.97)
        )
        return np.asarray(np.maximum(self.los_db(way), loss_db))

    def shadowing_std_db(self, way: Way) -> tuple[Floats, float]:
        return np.where(way.distance_m < self._breakpoint_m(way), 4.0, 6.0), 8.0

    def _breakpoint_m(self, way: Way) -> Floats | float:
        heights = self.station_height_m * way.height_m
        return 2.0 * np.pi * heights * way.carrier_hz / SPEED_OF_LIGHT_M_PER_S

    def _near_db(self, away_m: Floats, way: Way) -> Floats:
        bent = self.building_height_m**1.72
        return np.asarray(
            20.0 * np.log10(40.0 * np.pi * away_m * way.carrier_ghz / 3.0)
            + min(0.03 * bent, 10.0) * np.log10(away_m)
            - min(0.044 * bent, 14.77)
            + 0.002 * np.log10(self.building_height_m) * away_m
        )
