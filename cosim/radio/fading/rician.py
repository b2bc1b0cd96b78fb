"""Fading with a share of the power on paths that stay as they are."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.fading import BlockFading
from cosim.rng import Stream
from cosim.units import Floats


class Rician(BlockFading):
    """Rician block fading; ``k_factor`` is fixed to scattered power, linear.

    What is fixed is a line of sight, as strong on every subchannel, or, for clients that hardly
    move, ``multipath``: a sum of paths that is drawn once for each subchannel, with Rayleigh
    amplitude. Subchannels then differ for good, and fade around it.

    Under one seed the scatter is that of ``rayleigh_block``, so a ``k_factor`` of
    zero is the very same air and two K factors can be compared on one scatter.

    Source
    ------
    A. Goldsmith, "Wireless Communications", Cambridge, 2005, sec. 3.2.2. Fixed multipath: L. J.
    Greenstein et al., "Ricean K-factors in narrow-band fixed wireless channels", IEEE Trans.
    Veh. Technol. 58(8), 2009.
    """

    kind: Literal["rician"] = "rician"
    draws_rows_alone: ClassVar[bool] = True
    k_factor: float = Field(ge=0.0)
    fixed: Literal["line_of_sight", "multipath"] = "line_of_sight"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"k_factor": 0.0, "coherence_time_s": 0.01},
        {"k_factor": 3.0},
        {"k_factor": 100.0, "coherence_time_s": 0.01, "selectivity": "flat"},
        {"k_factor": 10.0, "coherence_time_s": 0.01, "fixed": "multipath"},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        scatter_power = -np.log(stream.uniforms(first, count, width))
        phase = 2.0 * np.pi * stream.child("phase").uniforms(first, count, width)
        # of K fixed and s scattered, |sqrt(K) + sqrt(s) exp(j phase)|^2 / (K + 1), written out.
        fixed_power: float | Floats = self.k_factor
        if self.fixed == "multipath":
            fixed_power = -self.k_factor * np.log(stream.child("fixed").uniforms(0, 1, width))
        cross = 2.0 * np.sqrt(fixed_power * scatter_power) * np.cos(phase)
        return np.maximum(fixed_power + scatter_power + cross, 0.0) / (self.k_factor + 1.0)

    def exceeding(self, level: Floats) -> Floats:
        if self.fixed == "multipath":
            return np.exp(-np.maximum(level, 0.0))
        from scipy.stats import ncx2

        scaled = 2.0 * (self.k_factor + 1.0) * np.maximum(level, 0.0)
        return np.asarray(ncx2.sf(scaled, 2, 2.0 * self.k_factor))
