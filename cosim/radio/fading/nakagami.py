"""Fading whose depth is one number."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.fading import BlockFading
from cosim.rng import Stream
from cosim.units import Floats


class Nakagami(BlockFading):
    """Nakagami-m block fading: power gains are gamma with shape ``m`` and mean one.

    ``m`` = 1 is Rayleigh, 0.5 the deepest, and large ``m`` hardly fades. Drawn by
    inverting the distribution on the uniforms of ``rayleigh_block``, so that under
    one seed a deep fade is a deep fade for every ``m``.

    Source
    ------
    M. Nakagami, "The m-distribution: a general formula of intensity distribution
    of rapid fading", in Statistical Methods in Radio Wave Propagation, Pergamon, 1960.
    """

    kind: Literal["nakagami"] = "nakagami"
    draws_rows_alone: ClassVar[bool] = True
    m: float = Field(ge=0.5)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"m": 0.5, "coherence_time_s": 0.01},
        {"m": 1.0},
        {"m": 4.0, "coherence_time_s": 0.01, "selectivity": "flat"},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        from scipy.special import gammainccinv

        uniforms = stream.uniforms(first, count, width)
        return np.asarray(gammainccinv(self.m, uniforms) / self.m)

    def exceeding(self, level: Floats) -> Floats:
        from scipy.special import gammaincc

        return np.asarray(gammaincc(self.m, self.m * np.maximum(level, 0.0)))
