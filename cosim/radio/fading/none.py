"""No fading."""

from typing import ClassVar, Literal

import numpy as np

from cosim.radio.fading import Fading
from cosim.rng import Stream
from cosim.units import Floats


class NoFading(Fading):
    """A gain of one on every subchannel for the whole run."""

    kind: Literal["none"] = "none"
    draws_rows_alone: ClassVar[bool] = True
    fades: ClassVar[bool] = False

    @property
    def block_ns(self) -> int | None:
        return None

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        return np.ones((count, width))

    def exceeding(self, level: Floats) -> Floats:
        return np.asarray(np.asarray(level) <= 1.0, dtype=float)
