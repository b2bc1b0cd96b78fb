"""What all environments of TR 38.901 share: line of sight or none, and heights."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.radio.geometry import DEFAULT_CARRIER_HZ, Geometry
from cosim.radio.path_loss import PathLoss
from cosim.radio.propagation import Propagation, ShadowState
from cosim.units import Floats


@dataclass(frozen=True, eq=False)
class Way:
    """What the formulas need of the way from a site to a client; arrays of shapes that fit each other.

    Attributes
    ----------
    distance_m
        On the plane, m.
    height_m
        Of the client, m.
    carrier_hz
        Carrier frequency, Hz.
    environment_height_m
        Height of what reflects instead of the ground, m; only UMa has another than 1 m.
    """

    distance_m: Floats
    height_m: Floats | float
    carrier_hz: float
    environment_height_m: Floats | float = 1.0

    @property
    def carrier_ghz(self) -> float:
        """Carrier frequency, GHz."""
        return self.carrier_hz / 1e9


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is around each client; arrays of shape (num_instants, num_clients).

    Attributes
    ----------
    height_m
        Height of the client, m.
    is_indoors
        Whether it is in a building that no site is in.
    inside_m
        How far inside, m; 0 where it is not.
    extra_loss_db
        Loss of walls and cars, dB.
    """

    height_m: Floats
    is_indoors: NDArray[np.bool_]
    inside_m: Floats
    extra_loss_db: Floats


class Tr38901(PathLoss):
    """Path loss with and without line of sight; how likely the former is falls with distance.

    Settings
    --------
    station_height_m, client_height_m
        Heights of antennas, m.
    line_of_sight
        ``drawn`` as the environment has it, or ``always`` or ``never``.
    spatially_consistent
        Whether the state of a path belongs to the place, so that clients near each
        other, and one that moves, meet the same; else each client has draws of its own, kept
        wherever it goes.
    min_distance_m
        On the plane. Beyond the range in which the standard's formulas hold they are
        continued.

    Source
    ------
    3GPP TR 38.901 V19.2, clauses 7.4.1 to 7.4.4 and 7.6.3. Where line of sight belongs to
    the place, a Gaussian field becomes a uniform draw and is compared with the
    probability (clause 7.6.3.3, without its soft states).
    """

    has_states: ClassVar[bool] = True
    carrier_range_hz: ClassVar[tuple[float, float] | None] = (0.5e9, 100e9)
    source: ClassVar[str] = "3GPP TR 38.901, Table 7.4.1-1"
    shadowing_correlation_m: ClassVar[tuple[float, float]]
    """Correlation distances of shadowing with and without line of sight, m (Table 7.5-6)."""

    station_height_m: float = Field(default=25.0, gt=0.0, le=1000.0)
    client_height_m: float = Field(default=1.5, gt=0.0, le=1000.0)
    line_of_sight: Literal["drawn", "always", "never"] = "drawn"
    spatially_consistent: bool = True

    @abstractmethod
    def los_probability(self, distance_m: Floats, height_m: Floats | float) -> Floats:
        """Return the probability of line of sight over a distance outdoors, for a client of some height."""

    @abstractmethod
    def los_db(self, way: Way) -> Floats:
        """Return the loss with line of sight, dB."""

    @abstractmethod
    def nlos_db(self, way: Way) -> Floats:
        """Return the loss without line of sight, dB."""

    @abstractmethod
    def shadowing_std_db(self, way: Way) -> tuple[Floats | float, Floats | float]:
        """Return the standard deviations of shadowing with and without line of sight, dB."""

    def distance_3d_m(self, way: Way) -> Floats:
        """Return the distance between antennas, m."""
        return np.hypot(way.distance_m, self.station_height_m - way.height_m)

    def formula_db(self, distance_m: Floats) -> Floats:
        """Return the loss outdoors at 2 GHz, with line of sight unless there is never any."""
        way = Way(np.asarray(distance_m), self.client_height_m, DEFAULT_CARRIER_HZ)
        return self.nlos_db(way) if self.line_of_sight == "never" else self.los_db(way)

    def propagation(self, geometry: Geometry) -> Propagation:
        around = self.surroundings(geometry)
        height_m = around.height_m[..., np.newaxis]
        distance_m = np.maximum(geometry.distances_m, self.min_distance_m)
        reflector_m = self._environment_height_m(geometry, distance_m, height_m)
        way = Way(distance_m, height_m, geometry.carrier_hz, reflector_m)
        outside_m = np.maximum(distance_m - around.inside_m[..., np.newaxis], 0.0)
        is_los = self._is_los(geometry, self.los_probability(outside_m, height_m))
        basic_db = np.where(is_los, self.los_db(way), self.nlos_db(way))
        return Propagation(
            loss_db=np.maximum(basic_db + around.extra_loss_db[..., np.newaxis], 0.0),
            heights_m=around.height_m - self.station_height_m,
            is_los=is_los,
            states=self._states(way, is_los, around.is_indoors[..., np.newaxis]),
        )

    @abstractmethod
    def los_correlation_m(self) -> float:
        """Return the correlation distance of the state of line of sight, m (Table 7.6.3.1-2)."""

    def surroundings(self, geometry: Geometry) -> Surroundings:
        """Return what is around each client: by default nothing that is not in the formulas."""
        shape = geometry.client_m.shape[:-1]
        zero = np.zeros(shape)
        return Surroundings(np.full(shape, self.client_height_m), zero > 0.0, zero, zero)

    def correlation_m(self, distance_m: float) -> float | None:
        """Return a correlation distance, m, if states belong to places; None if to clients."""
        return distance_m if self.spatially_consistent else None

    def _environment_height_m(
        self, geometry: Geometry, distance_m: Floats, height_m: Floats
    ) -> Floats | float:
        return 1.0

    def _is_los(self, geometry: Geometry, probability: Floats) -> NDArray[np.bool_]:
        from scipy.special import ndtr

        if self.line_of_sight != "drawn":
            return np.full(probability.shape, self.line_of_sight == "always")
        drawn = geometry.normals_of_sites("line of sight", self.correlation_m(self.los_correlation_m()))
        return np.asarray(ndtr(drawn) < probability)

    def _states(
        self, way: Way, is_los: NDArray[np.bool_], is_indoors: NDArray[np.bool_]
    ) -> tuple[ShadowState, ...]:
        with_std_db, without_std_db = self.shadowing_std_db(way)
        with_m, without_m = map(self.correlation_m, self.shadowing_correlation_m)
        return (
            ShadowState("line of sight", is_los & ~is_indoors, with_std_db, with_m),
            ShadowState("no line of sight", ~is_los & ~is_indoors, without_std_db, without_m),
        )
