"""Shadowing that is normal in decibels."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.random_field import normals
from cosim.radio.shadowing import Shadowing
from cosim.rng import Stream
from cosim.units import Floats


class LogNormal(Shadowing):
    """Normal in dB with mean zero, independent between clients.

    Another ``std_db`` under the same seed scales the same draws. Clients near
    each other are not correlated.

    Source
    ------
    A. Goldsmith, "Wireless Communications", Cambridge, 2005, sec. 2.7.
    """

    kind: Literal["log_normal"] = "log_normal"
    std_db: float = Field(ge=0.0, le=40.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"std_db": 8.0}, {"std_db": 0.0})

    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        return np.asarray(self.std_db * normals(stream, num_clients))
