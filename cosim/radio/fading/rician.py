"""Fading with a share of the power on the line of sight."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.fading import BlockFading
from cosim.rng import Stream
from cosim.units import Floats


class Rician(BlockFading):
    """Rician block fading; ``k_factor`` is line-of-sight to scattered power, linear.

    Under one seed the scatter is that of ``rayleigh_block``, so a ``k_factor`` of
    zero is the very same air and two K factors can be compared on one scatter.

    Source
    ------
    A. Goldsmith, "Wireless Communications", Cambridge, 2005, sec. 3.2.2.
    """

    kind: Literal["rician"] = "rician"
    k_factor: float = Field(ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"k_factor": 0.0, "coherence_time_s": 0.01},
        {"k_factor": 3.0},
        {"k_factor": 100.0, "coherence_time_s": 0.01, "selectivity": "flat"},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        scatter_power = -np.log(stream.uniforms(first, count, width))
        phase = 2.0 * np.pi * stream.child("phase").uniforms(first, count, width)
        # |sqrt(K) + sqrt(s) exp(j phase)|^2 / (K + 1), written out.
        cross = 2.0 * np.sqrt(self.k_factor * scatter_power) * np.cos(phase)
        return np.maximum(self.k_factor + scatter_power + cross, 0.0) / (self.k_factor + 1.0)

    def exceeding(self, level: Floats) -> Floats:
        from scipy.stats import ncx2

        scaled = 2.0 * (self.k_factor + 1.0) * np.maximum(level, 0.0)
        return np.asarray(ncx2.sf(scaled, 2, 2.0 * self.k_factor))
