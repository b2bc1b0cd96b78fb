"""How much of the power is lost on the way: from distance alone, or also from what is in between."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from cosim.parts import Part, Plane
from cosim.radio.geometry import Geometry
from cosim.radio.propagation import Propagation
from cosim.units import Floats


class PathLoss(Part):
    """Loss over a distance, never decreasing in it.

    ``min_distance_m``: a client nearer than this is treated as standing there.
    Path loss formulas are far-field fits and fall to minus infinity at the
    antenna; standards cut them off in the same way.
    """

    plane: ClassVar[Plane] = "time"
    carrier_range_hz: ClassVar[tuple[float, float] | None] = None
    """Lowest and highest carrier that it holds for, Hz; None where it does not say."""

    source: ClassVar[str] = ""
    """Which standard says so, in a few words."""

    has_states: ClassVar[bool] = False
    """Whether it says of each path in which state of shadowing it is."""

    min_distance_m: float = Field(default=1.0, gt=0.0)

    @abstractmethod
    def formula_db(self, distance_m: Floats) -> Floats:
        """Return the model's formula at these distances, dB, same shape."""

    def loss_db(self, distance_m: Floats) -> Floats:
        """Return the path loss, dB, same shape as ``distance_m``.

        Never below 0 dB: a passive channel amplifies nothing.

        Raises
        ------
        ValueError
            If a distance is negative or not a number.
        """
        distance_m = np.asarray(distance_m, dtype=np.float64)
        if not np.all(distance_m >= 0.0):
            raise ValueError(f"a distance must not be negative, got {distance_m.min()} m")
        return np.maximum(self.formula_db(np.maximum(distance_m, self.min_distance_m)), 0.0)

    def propagation(self, geometry: Geometry) -> Propagation:
        """Return what the way from each site to each client does; by default, a loss over the distance."""
        return Propagation(self.loss_db(geometry.distances_m))
