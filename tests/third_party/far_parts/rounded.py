"""Step on an update: numbers rounded to whole multiples of a width."""

from typing import Literal

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.update import Applied, Tensors, UpdateStep
from cosim.rng import Stream


class Rounded(UpdateStep):
    """Rounds each number to the nearest multiple of ``width``; 2 FLOP a number."""

    kind: Literal["far_rounded"] = "far_rounded"
    width: float = Field(default=1e-3, gt=0.0)

    def encode_flop(self, layout: Layout) -> int:
        """Return two for each number."""
        return 2 * layout.num_numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the rounded numbers."""
        return Applied({name: (one / self.width).round() * self.width for name, one in numbers.items()})
