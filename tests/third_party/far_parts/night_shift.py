"""Availability: shifts."""

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.compute.availability import Availability
from cosim.kernel.presence import Away
from cosim.rng import Stream
from cosim.units import seconds_to_ns


class NightShift(Availability):
    """Each client is away for the second half of every period, each with a beginning of its own."""

    kind: Literal["far_night_shift"] = "far_night_shift"
    period_s: float = Field(default=1.0, ge=1e-3, le=1e6)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"period_s": 0.0015, "at_start": "skip"})

    def times_away(self, client: int, stream: Stream) -> Iterator[Away]:
        """Return the second halves."""
        period_ns = seconds_to_ns(self.period_s)
        first_ns = int(stream.uniforms(0, 1, 1)[0, 0] * period_ns)
        for number in count():
            leaves_ns = first_ns + number * period_ns
            yield Away(leaves_ns, leaves_ns + period_ns // 2)

    @property
    def told(self) -> str:
        """How long a period is."""
        return f"clients are there for half of every {self.period_s:g} s"
