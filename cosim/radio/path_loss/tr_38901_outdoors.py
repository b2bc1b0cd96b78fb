"""What the environments of TR 38.901 with base stations outdoors share: buildings and cars."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.radio.geometry import Geometry
from cosim.radio.path_loss.tr_38901 import Surroundings, Tr38901, Way
from cosim.radio.propagation import ShadowState
from cosim.units import Floats

_WALL_STD_DB = {"low": 4.4, "high": 6.5}
_CAR_LOSS_DB = {"plain": 9.0, "metallised": 20.0}
_CAR_STD_DB = 5.0
_WALL_CORRELATION_M = 10.0
_DEPTH_CORRELATION_M = 25.0
_BUILDING_CORRELATION_M = 50.0
_STOREY_M = 3.0
_FEWEST_FLOORS, _MOST_FLOORS = 4, 8

Edition = Literal["16.1", "19.2"]


def wall_loss_db(carrier_ghz: float, loss: Literal["low", "high"], edition: Edition = "19.2") -> float:
    """Return the loss through an external wall, dB, without its random part.

    Source
    ------
    3GPP TR 38.901, Tables 7.4.3-1 and 7.4.3-2. V16.1 and earlier have 23 + 0.3 f for
    infra-red reflecting glass, V19.2 has 25.4 + 0.11 f.

    Examples
    --------
    >>> round(wall_loss_db(6.0, "low"), 3), round(wall_loss_db(6.0, "high"), 3)
    (13.402, 31.753)
    """
    glass_db, concrete_db = 2.0 + 0.2 * carrier_ghz, 5.0 + 4.0 * carrier_ghz
    share = 0.3
    if loss == "high":
        newer = edition == "19.2"
        glass_db = 25.4 + 0.11 * carrier_ghz if newer else 23.0 + 0.3 * carrier_ghz
        share = 0.7
    through = share * 10.0 ** (-glass_db / 10.0) + (1.0 - share) * 10.0 ** (-concrete_db / 10.0)
    return float(5.0 - 10.0 * np.log10(through))


class Tr38901Outdoors(Tr38901):
    """Some clients are in buildings, which base stations are not, and some in cars.

    Settings
    --------
    indoor_share
        Share of the clients, or of the area, that is in buildings.
    high_loss_share
        Share of the buildings whose walls have high loss.
    car_share, car_windows
        Share of the clients outdoors that are in cars, and the cars' windows.
    edition
        Of the standard; they differ in the loss of high-loss walls alone.

    Where a client is indoors, its building, how deep inside it is and the random part of the
    wall's loss belong to the place if ``spatially_consistent``. The standard names the
    correlation distances of the first (50 m), the depth (25 m) and the wall (10 m);
    that a building's kind and number of floors have the 50 m, too, is ours. The special
    wall of Table 7.4.3-3 (20 dB below 6 GHz, for comparisons with TR 36.873) is not used.
    """

    max_depth_m: ClassVar[float]
    """Largest distance indoors on the plane, m."""

    indoor_std_db: ClassVar[float]
    indoor_correlation_m: ClassVar[float]
    indoor_state_correlation_m: ClassVar[float] = 50.0
    has_floors: ClassVar[bool] = True

    indoor_share: float = Field(default=0.8, ge=0.0, le=1.0)
    high_loss_share: float = Field(default=0.5, ge=0.0, le=1.0)
    car_share: float = Field(default=0.0, ge=0.0, le=1.0)
    car_windows: Literal["plain", "metallised"] = "plain"
    edition: Edition = "19.2"

    def surroundings(self, geometry: Geometry) -> Surroundings:
        is_indoors = self._drawn(geometry, "indoors", self.indoor_state_correlation_m) < self.indoor_share
        depth = np.minimum(*(self._drawn(geometry, f"depth {n}", _DEPTH_CORRELATION_M) for n in (1, 2)))
        inside_m = np.where(is_indoors, self.max_depth_m * depth, 0.0)
        return Surroundings(
            height_m=self._height_m(geometry, is_indoors),
            is_indoors=is_indoors,
            inside_m=inside_m,
            extra_loss_db=np.where(
                is_indoors, self._wall_db(geometry) + 0.5 * inside_m, self._car_db(geometry)
            ),
        )

    def _drawn(self, geometry: Geometry, name: str, correlation_m: float) -> Floats:
        """Return uniform draws of each client, shape (num_instants, num_clients)."""
        from scipy.special import ndtr

        return np.asarray(ndtr(geometry.normals(name, self.correlation_m(correlation_m))))

    def _height_m(self, geometry: Geometry, is_indoors: NDArray[np.bool_]) -> Floats:
        if not self.has_floors:
            return np.full(is_indoors.shape, self.client_height_m)
        building = self._drawn(geometry, "floors", _BUILDING_CORRELATION_M)
        spread = _MOST_FLOORS - _FEWEST_FLOORS + 1
        floors = _FEWEST_FLOORS + np.minimum(np.floor(spread * building), spread - 1)
        floor = np.floor(floors * geometry.own_uniforms("floor"))  # 0 is the ground floor
        return np.where(is_indoors, _STOREY_M * floor + self.client_height_m, self.client_height_m)

    def _wall_db(self, geometry: Geometry) -> Floats:
        is_high = self._drawn(geometry, "building", _BUILDING_CORRELATION_M) < self.high_loss_share
        normal = geometry.normals("wall", self.correlation_m(_WALL_CORRELATION_M))
        ghz = geometry.carrier_hz / 1e9
        low_db, high_db = (
            wall_loss_db(ghz, loss, self.edition) + _WALL_STD_DB[loss] * normal for loss in ("low", "high")
        )
        return np.where(is_high, high_db, low_db)

    def _car_db(self, geometry: Geometry) -> Floats:
        normal = geometry.normals("car", None)
        loss_db = np.maximum(_CAR_LOSS_DB[self.car_windows] + _CAR_STD_DB * normal, 0.0)
        return np.where(geometry.own_uniforms("in a car") < self.car_share, loss_db, 0.0)

    def _states(
        self, way: Way, is_los: NDArray[np.bool_], is_indoors: NDArray[np.bool_]
    ) -> tuple[ShadowState, ...]:
        inside = np.broadcast_to(is_indoors, is_los.shape)
        correlation_m = self.correlation_m(self.indoor_correlation_m)
        return (
            *super()._states(way, is_los, is_indoors),
            ShadowState("indoors", inside, self.indoor_std_db, correlation_m),
        )
