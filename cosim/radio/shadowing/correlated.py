"""Shadowing that is alike at places near each other."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.geometry import Geometry
from cosim.radio.propagation import Propagation
from cosim.radio.random_field import normals
from cosim.radio.shadowing import Shadowing
from cosim.rng import Stream
from cosim.units import Floats


class Correlated(Shadowing):
    """Normal in dB with mean zero; correlation exp(-distance / ``correlation_m``) between two places.

    Clients near each other, and a client that moves, meet the same obstacles. Each
    site of base stations has a field of its own over the plane.

    Source
    ------
    M. Gudmundson, "Correlation model for shadow fading in mobile radio systems",
    Electronics Letters 27(23), 1991.
    """

    kind: Literal["correlated"] = "correlated"
    std_db: float = Field(ge=0.0, le=40.0)
    correlation_m: float = Field(gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"std_db": 8.0, "correlation_m": 50.0},
        {"std_db": 4.0, "correlation_m": 10.0},
    )

    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        """Return the losses of clients that are far from each other, dB, shape (num_clients,)."""
        return np.asarray(self.std_db * normals(stream, num_clients))

    def losses_db(self, geometry: Geometry, propagation: Propagation) -> Floats:
        return np.asarray(self.std_db * geometry.normals_of_sites("shadowing", self.correlation_m))
