"""Shadowing that is normal in decibels."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

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
        table = stream.uniforms(0, num_clients, 2)  # Box-Muller: two uniforms for each client
        normal = np.sqrt(-2.0 * np.log(table[:, 0])) * np.cos(2.0 * np.pi * table[:, 1])
        return np.asarray(self.std_db * normal)
