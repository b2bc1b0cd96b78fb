"""Updates shortened to a norm."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.update import Applied, Tensors, UpdateStep
from cosim.rng import Stream


class Clip(UpdateStep):
    """Scales the whole update down to a 2-norm of ``max_norm``, if it is longer; 3 FLOP a number.

    Source
    ------
    H. B. McMahan et al., "Learning differentially private recurrent language models",
    ICLR 2018: flat clipping of a client's update.
    """

    kind: Literal["clip"] = "clip"
    max_norm: float = Field(default=1.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"max_norm": 0.01})

    @property
    def is_summable(self) -> bool:
        """What goes on are numbers as they were."""
        return True

    def sensitivity(self, before: float) -> float:
        """Return the norm, or less."""
        return min(before, self.max_norm)

    def encode_flop(self, layout: Layout) -> int:
        """Return three for each number: its square, the sum, the scaling."""
        return 3 * layout.num_numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the numbers times the smaller of 1 and ``max_norm`` over their norm."""
        norm = sum(float(tensor.double().square().sum()) for tensor in numbers.values()) ** 0.5
        scale = self.max_norm / norm if norm > self.max_norm else 1.0
        return Applied({name: tensor * scale for name, tensor in numbers.items()})
