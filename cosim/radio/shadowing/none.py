"""No shadowing."""

from typing import Literal

import numpy as np

from cosim.radio.shadowing import Shadowing
from cosim.rng import Stream
from cosim.units import Floats


class NoShadowing(Shadowing):
    """Nothing is in the way: 0 dB for everyone."""

    kind: Literal["none"] = "none"

    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        return np.zeros(num_clients)
