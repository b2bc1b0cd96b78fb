"""Fading without line of sight, drawn afresh for each block."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.fading import BlockFading
from cosim.rng import Stream
from cosim.units import Floats


class RayleighBlock(BlockFading):
    """Rayleigh block fading: power gains are exponential.

    Source
    ------
    A. Goldsmith, "Wireless Communications", Cambridge, 2005, sec. 3.2.2.
    """

    kind: Literal["rayleigh_block"] = "rayleigh_block"
    draws_rows_alone: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"coherence_time_s": 0.01},
        {"coherence_time_s": 0.001, "selectivity": "flat"},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        return np.asarray(-np.log(stream.uniforms(first, count, width)))

    def exceeding(self, level: Floats) -> Floats:
        return np.asarray(np.exp(-np.maximum(level, 0.0)))
