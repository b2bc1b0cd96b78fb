"""Indoor offices."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.path_loss.tr_38901 import Tr38901, Way
from cosim.units import Floats


class IndoorOffice(Tr38901):
    """InH of TR 38.901: base stations at the ceiling, at 3 m, of an ``open`` or a ``mixed`` office.

    Source
    ------
    3GPP TR 38.901 V19.2, Tables 7.2-2, 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2.
    """

    kind: Literal["tr_38901_inh"] = "tr_38901_inh"
    min_distance_m: float = Field(default=0.1, gt=0.0)
    station_height_m: float = Field(default=3.0, gt=0.0, le=1000.0)
    client_height_m: float = Field(default=1.0, gt=0.0, le=1000.0)
    office: Literal["open", "mixed"] = "open"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"office": "mixed"},
        {"line_of_sight": "never", "spatially_consistent": False},
    )
    shadowing_correlation_m: ClassVar[tuple[float, float]] = (10.0, 6.0)

    def los_correlation_m(self) -> float:
        return 10.0

    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        if self.office == "open":
            near, far = np.exp(-(distance_m - 5.0) / 70.8), 0.54 * np.exp(-(distance_m - 49.0) / 211.7)
            return np.where(distance_m <= 5.0, 1.0, np.where(distance_m <= 49.0, near, far))
        near, far = np.exp(-(distance_m - 1.2) / 4.7), 0.32 * np.exp(-(distance_m - 6.5) / 32.6)
        return np.where(distance_m <= 1.2, 1.0, np.where(distance_m < 6.5, near, far))

    def los_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        return np.asarray(32.4 + 17.3 * log_away + 20.0 * log_ghz)

    def nlos_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        return np.asarray(np.maximum(self.los_db(way), 38.3 * log_away + 17.3 + 24.9 * log_ghz))

    def shadowing_std_db(self, way: Way) -> tuple[float, float]:
        return 3.0, 8.03
