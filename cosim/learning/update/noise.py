"""Normal noise on an update."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.update import NORMAL_FLOP, Applied, Tensors, UpdateStep, with_noise
from cosim.rng import Stream


class Noise(UpdateStep):
    """Adds independent normal noise of standard deviation ``std`` to each number.

    Each client draws its own in each round. Behind ``clip`` this is the Gaussian mechanism for
    a client's update; without one nothing bounds what is released. Its FLOP are those of
    a draw and a sum for each number.

    Source
    ------
    C. Dwork, A. Roth, "The algorithmic foundations of differential privacy", 2014, appendix A.
    """

    kind: Literal["noise"] = "noise"
    std: float = Field(default=0.01, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)

    @property
    def chance(self) -> Literal["none", "own", "common"]:
        """Its own."""
        return "own"

    @property
    def is_summable(self) -> bool:
        """What goes on are numbers as they were."""
        return True

    @property
    def noise_std(self) -> float:
        """As set."""
        return self.std

    def encode_flop(self, layout: Layout) -> int:
        """Return a draw and a sum for each number."""
        return (NORMAL_FLOP + 1) * layout.num_numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the numbers with noise, drawn in double precision tensor by tensor."""
        assert chance is not None
        return Applied(with_noise(numbers, self.std, chance))
