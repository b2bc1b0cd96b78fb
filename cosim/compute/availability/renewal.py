"""Clients that come and go at random."""

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.compute.availability import Availability
from cosim.kernel.presence import Away
from cosim.parts import LONGEST_S
from cosim.rng import Stream
from cosim.units import NS_PER_S

_DRAWN_TOGETHER = 64


class Renewal(Availability):
    """Each client is there and away in turn, for exponential times, from equilibrium on.

    It is there at the beginning with probability ``mean_on_s / (mean_on_s + mean_off_s)``; the
    exponential has no memory, so what is left of the first time is one like the others.
    """

    kind: Literal["renewal"] = "renewal"
    mean_on_s: float = Field(ge=1e-6, le=LONGEST_S)
    mean_off_s: float = Field(ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"mean_on_s": 0.05, "mean_off_s": 0.02},
        {"mean_on_s": 0.01, "mean_off_s": 0.01, "at_start": "skip", "on_leave": "restart"},
    )

    def times_away(self, client: int, stream: Stream) -> Iterator[Away]:
        begins = stream.child("begins").uniforms(0, 1, 1)[0, 0]
        is_here, now_ns = begins * (self.mean_on_s + self.mean_off_s) < self.mean_on_s, 0
        for number in count():
            drawn = -np.log(stream.uniforms(number * _DRAWN_TOGETHER, _DRAWN_TOGETHER, 2))
            lasts_ns = np.ceil(drawn * [self.mean_on_s * NS_PER_S, self.mean_off_s * NS_PER_S])
            for on_ns, off_ns in lasts_ns.astype(np.int64).tolist():
                leaves_ns = now_ns + (on_ns if is_here else 0)
                now_ns, is_here = leaves_ns + off_ns, True
                yield Away(leaves_ns, now_ns)

    @property
    def told(self) -> str:
        """When clients are there, in words."""
        return f"clients are there for {self.mean_on_s:g} s and away for {self.mean_off_s:g} s on average"
