"""Indoor factories."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.radio.path_loss.tr_38901 import Tr38901, Way
from cosim.units import Floats

_NLOS_LOSS_DB = {
    "SL": (33.0, 25.5),
    "DL": (18.6, 35.7),
    "SH": (32.4, 23.0),
    "DH": (33.63, 21.9),
}  # at 1 m and 1 GHz, and per decade of distance
_NLOS_STD_DB = {"SL": 5.7, "DL": 7.2, "SH": 5.9, "DH": 4.0, "HH": 4.3}


class IndoorFactory(Tr38901):
    """InF of TR 38.901: a hall with sparse (S) or dense (D) clutter, and base stations low (L) or high (H).

    ``HH`` has both antennas above the clutter, and always line of sight.

    Settings
    --------
    clutter_density
        Share of the floor that is covered.
    clutter_size_m, clutter_height_m
        Typical width and effective height of the clutter, m.

    Source
    ------
    3GPP TR 38.901 V19.2, Tables 7.2-4, 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2; the defaults are
    those of InF-SH in the calibration, Table 7.8-7.
    """

    kind: Literal["tr_38901_inf"] = "tr_38901_inf"
    min_distance_m: float = Field(default=1.0, gt=0.0)
    station_height_m: float = Field(default=8.0, gt=0.0, le=1000.0)
    sub_scenario: Literal["SL", "DL", "SH", "DH", "HH"] = "SH"
    clutter_density: float = Field(default=0.2, gt=0.0, lt=1.0)
    clutter_size_m: float = Field(default=10.0, gt=0.0)
    clutter_height_m: float = Field(default=2.0, gt=0.0, le=100.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"sub_scenario": "SL", "station_height_m": 1.5},
        {
            "sub_scenario": "DL",
            "station_height_m": 1.5,
            "clutter_density": 0.6,
            "clutter_size_m": 2.0,
            "clutter_height_m": 6.0,
            "line_of_sight": "never",
        },
        {"sub_scenario": "DH", "clutter_density": 0.6, "clutter_size_m": 2.0, "clutter_height_m": 6.0},
        {"sub_scenario": "HH", "client_height_m": 4.0},
    )
    shadowing_correlation_m: ClassVar[tuple[float, float]] = (10.0, 10.0)

    @model_validator(mode="after")
    def _antennas_are_where_the_name_says(self) -> Self:
        low, clutter, high = self.client_height_m, self.clutter_height_m, self.station_height_m
        if self.sub_scenario in ("SH", "DH") and not low < clutter < high:
            raise ValueError(
                f"{self.sub_scenario!r} has clients below the clutter and base stations above it; make "
                f"client_height_m {low:g} < clutter_height_m {clutter:g} < station_height_m {high:g}"
            )
        if self.sub_scenario == "HH" and self.line_of_sight == "never":
            raise ValueError("'HH' always has line of sight; leave line_of_sight out")
        return self

    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        if self.sub_scenario == "HH":
            return np.ones(distance_m.shape)
        decay_m: Floats | float = -self.clutter_size_m / np.log1p(-self.clutter_density)
        if self.sub_scenario in ("SH", "DH"):
            decay_m = decay_m * (self.station_height_m - height_m) / (self.clutter_height_m - height_m)
        return np.exp(-distance_m / decay_m)

    def los_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        return np.asarray(31.84 + 21.5 * log_away + 19.0 * log_ghz)

    def nlos_db(self, way: Way) -> Floats:
        log_away, log_ghz = np.log10(self.distance_3d_m(way)), np.log10(way.carrier_ghz)
        loss_db = self.los_db(way)
        for name in {"DL": ("SL", "DL"), "HH": ()}.get(self.sub_scenario, (self.sub_scenario,)):
            at_1_m, per_decade = _NLOS_LOSS_DB[name]
            loss_db = np.maximum(loss_db, at_1_m + per_decade * log_away + 20.0 * log_ghz)
        return loss_db

    def shadowing_std_db(self, way: Way) -> tuple[float, float]:
        return 4.3, _NLOS_STD_DB[self.sub_scenario]

    def los_correlation_m(self) -> float:
        return self.clutter_size_m / 2.0
