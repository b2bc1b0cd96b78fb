"""Urban macro cells."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.geometry import Geometry
from cosim.radio.path_loss.tr_38901 import Way
from cosim.radio.path_loss.tr_38901_outdoors import Tr38901Outdoors
from cosim.units import SPEED_OF_LIGHT_M_PER_S, Floats

_LOWEST_REFLECTOR_M, _REFLECTORS_APART_M = 12.0, 3.0


class UrbanMacro(Tr38901Outdoors):
    """UMa of TR 38.901: base stations above the rooftops, at 25 m.

    Loss beyond the breakpoint depends on the height of what reflects, which is 1 m for
    clients below 13 m; higher up it may be a roof, drawn for each client and site
    (Table 7.4.1-1, note 1).

    Source
    ------
    3GPP TR 38.901 V19.2, Tables 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2.
    """

    kind: Literal["tr_38901_uma"] = "tr_38901_uma"
    min_distance_m: float = Field(default=10.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"line_of_sight": "never", "indoor_share": 0.0, "car_share": 0.5, "spatially_consistent": False},
        {"line_of_sight": "always", "high_loss_share": 1.0, "edition": "16.1", "car_windows": "metallised"},
    )
    shadowing_correlation_m: ClassVar[tuple[float, float]] = (37.0, 50.0)
    indoor_std_db: ClassVar[float] = 7.0
    indoor_correlation_m: ClassVar[float] = 7.0
    max_depth_m: ClassVar[float] = 25.0

    def los_correlation_m(self) -> float:
        return 50.0

    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        far_m = np.maximum(distance_m, 18.0)
        low = 18.0 / far_m + np.exp(-far_m / 63.0) * (1.0 - 18.0 / far_m)
        return np.where(distance_m <= 18.0, 1.0, low * (1.0 + _above_13_m(height_m) * _bulge(far_m)))

    def los_db(self, way: Way) -> Floats:
        station_m, client_m = self.station_height_m, way.height_m
        away_m, log_ghz = self.distance_3d_m(way), np.log10(way.carrier_ghz)
        reflector_m = way.environment_height_m
        above = (station_m - reflector_m) * (client_m - reflector_m)
        breakpoint_m = 4.0 * above * way.carrier_hz / SPEED_OF_LIGHT_M_PER_S
        near_db = 28.0 + 22.0 * np.log10(away_m) + 20.0 * log_ghz
        corner = breakpoint_m**2 + (station_m - client_m) ** 2
        far_db = 28.0 + 40.0 * np.log10(away_m) + 20.0 * log_ghz - 9.0 * np.log10(corner)
        return np.asarray(np.where(way.distance_m < breakpoint_m, near_db, far_db))

    def nlos_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        loss_db = 13.54 + 39.08 * log_away + 20.0 * log_ghz - 0.6 * (way.height_m - 1.5)
        return np.asarray(np.maximum(self.los_db(way), loss_db))

    def shadowing_std_db(self, way: Way) -> tuple[float, float]:
        return 4.0, 6.0

    def _environment_height_m(
        self, geometry: Geometry, distance_m: Floats, height_m: Floats
    ) -> Floats | float:
        """Return 1 m or, for some of those above 13 m, the height of a roof, drawn."""
        from scipy.special import ndtr

        if not (height_m >= 13.0).any():
            return 1.0
        correlation_m = self.correlation_m(self.los_correlation_m())
        is_roof, which = (
            ndtr(geometry.normals_of_sites(name, correlation_m)) for name in ("over roofs", "roof")
        )
        likely = 1.0 / (1.0 + _above_13_m(height_m) * np.where(distance_m <= 18.0, 0.0, _bulge(distance_m)))
        roofs = np.maximum(np.floor((height_m - 1.5 - _LOWEST_REFLECTOR_M) / _REFLECTORS_APART_M) + 1.0, 1.0)
        roof_m = _LOWEST_REFLECTOR_M + _REFLECTORS_APART_M * np.floor(which * roofs)
        return np.where(is_roof < likely, 1.0, roof_m)


def _above_13_m(height_m: Floats | float) -> Floats:
    """Return C' of Table 7.4.2-1: how much more often a client high up has line of sight."""
    return np.asarray((np.maximum(height_m - 13.0, 0.0) / 10.0) ** 1.5)


def _bulge(distance_m: Floats) -> Floats:
    return np.asarray(1.25 * (distance_m / 100.0) ** 3 * np.exp(-distance_m / 150.0))
