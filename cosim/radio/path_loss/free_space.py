"""Loss between two antennas with nothing in between."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.geometry import DEFAULT_CARRIER_HZ, Geometry
from cosim.radio.path_loss import PathLoss
from cosim.radio.propagation import Propagation
from cosim.units import SPEED_OF_LIGHT_M_PER_S, Floats


class FreeSpace(PathLoss):
    """Free-space path loss, 20 log10(4 pi d f / c).

    Without ``carrier_hz`` at ``radio.carrier_frequency_hz``.

    Source
    ------
    H. T. Friis, "A note on a simple transmission formula", Proc. IRE, 1946.

    Examples
    --------
    >>> FreeSpace(carrier_hz=2e9).loss_db(np.array([1000.0])).round(2)
    array([98.47])
    """

    kind: Literal["free_space"] = "free_space"
    carrier_hz: float | None = Field(default=None, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"carrier_hz": 28e9})

    def formula_db(self, distance_m: Floats) -> Floats:
        carrier_hz = DEFAULT_CARRIER_HZ if self.carrier_hz is None else self.carrier_hz
        wavelengths = distance_m * (carrier_hz / SPEED_OF_LIGHT_M_PER_S)
        return np.asarray(20.0 * np.log10(4.0 * np.pi * wavelengths))

    def propagation(self, geometry: Geometry) -> Propagation:
        if self.carrier_hz is not None:
            return super().propagation(geometry)
        return self.model_copy(update={"carrier_hz": geometry.carrier_hz}).propagation(geometry)
