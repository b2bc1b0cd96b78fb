"""Error feedback."""

from typing import ClassVar, Literal

from cosim.learning.codec import Layout
from cosim.learning.update import Applied, Tensors, UpdateStep
from cosim.rng import Stream


class Residual(UpdateStep):
    """What all behind it loses of an update, the codec too, is added to the client's next one.

    The sum of what was received and what is held back is the sum of the updates. The client
    holds as many numbers as it sends, and to know what was lost it decodes its own upload;
    with a sum and a difference for each number that is charged to it.

    Source
    ------
    S. P. Karimireddy et al., "Error feedback fixes SignSGD and other gradient compression
    schemes", ICML 2019, algorithm 1, on the updates of clients.
    """

    kind: Literal["residual"] = "residual"
    holds_back: ClassVar[bool] = True

    @property
    def is_summable(self) -> bool:
        """What goes on are numbers as they were."""
        return True

    def encode_flop(self, layout: Layout) -> int:
        """Return two for each number."""
        return 2 * layout.num_numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the numbers; what was held back is in them already."""
        return Applied(numbers)
