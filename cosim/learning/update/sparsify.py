"""Some numbers of an update, and zeros for the rest."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.codec.entries import flat, in_shapes, largest, magnitudes, place_bits, whole
from cosim.learning.update import Applied, Tensors, UpdateStep
from cosim.rng import Stream
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor


class Sparsify(UpdateStep):
    """Keeps a share of the numbers of the whole update; the receiver takes the others as zero.

    The largest travel with their places, in as many bits each as it takes to count through
    all numbers; random ones are drawn from a seed that all know, the same for all clients of
    a round, so no place travels. At least one number is kept.

    Attributes
    ----------
    ratio
        Share of the numbers that are kept, rounded down.
    choice
        ``largest`` magnitudes; ``random`` ones; or ``random_unbiased``, which the receiver scales by one
        over the share, so that what it has is right in the mean.

    Source
    ------
    S. U. Stich et al., "Sparsified SGD with memory", NeurIPS 2018: top-k and random-k; unbiased:
    J. Konecny et al., "Federated learning: strategies for improving communication
    efficiency", arXiv 1610.05492, subsampling.
    """

    kind: Literal["sparsify"] = "sparsify"
    keeps_layout: ClassVar[bool] = False
    less_lost: ClassVar[str] = "choice = 'random'"
    ratio: float = Field(default=0.1, gt=0.0, le=1.0)
    choice: Literal["largest", "random", "random_unbiased"] = "largest"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"ratio": 0.3, "choice": "random"},
        {"ratio": 0.5, "choice": "random_unbiased"},
        {"ratio": 1.0},
    )

    @property
    def chance(self) -> Literal["none", "own", "common"]:
        """Common for random numbers."""
        return "none" if self.choice == "largest" else "common"

    @property
    def is_summable(self) -> bool:
        """Where all keep the same numbers."""
        return self.choice != "largest"

    @property
    def loses_a_part(self) -> bool:
        """Unless what is kept is scaled up."""
        return self.choice != "random_unbiased"

    def sensitivity(self, before: float) -> float:
        """Return the same: numbers are left out."""
        return before

    def layout(self, layout: Layout) -> Layout:
        """Return the kept numbers in a row."""
        return Layout({"values": (self._count(layout),)}, layout.bits_per_number)

    def rows(self, layout: Layout) -> tuple[tuple[int, int], ...]:
        """Return the places, where they travel."""
        size, count = layout.num_numbers, self._count(layout)
        width = place_bits(size, count) if self.choice == "largest" else 0
        return ((count, width),) if width else ()

    def encode_flop(self, layout: Layout) -> int:
        """Return two for each number: its magnitude, and a comparison; none for random ones."""
        return 2 * layout.num_numbers if self.choice == "largest" else 0

    def decode_flop(self, layout: Layout) -> int:
        """Return one for each kept number where it is scaled."""
        return self._count(layout) if self.choice == "random_unbiased" else 0

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the kept numbers, in the order of their places."""
        import torch

        layout, row = Layout.of(numbers), flat(numbers, numbers)
        if self.choice == "largest":
            places = largest(magnitudes(row), self._count(layout))
        else:
            places = self._drawn(layout, chance)
        kept = row[torch.from_numpy(places).to(row.device)]
        return Applied({"values": kept}, [places] if self.rows(layout) else ())

    def restore(
        self, numbers: "Mapping[str, Tensor]", packed: Sequence[Ints], layout: Layout, chance: Stream | None
    ) -> Tensors:
        """Return the kept numbers in their places, and zeros."""
        import torch

        size, count = layout.num_numbers, self._count(layout)
        if packed:
            (places,) = packed
        else:
            places = torch.arange(count).numpy() if count == size else self._drawn(layout, chance)
        values = numbers["values"].detach().cpu()
        row = torch.zeros(size, dtype=values.dtype)
        row[torch.from_numpy(places)] = values * (size / count) if not self.loses_a_part else values
        return in_shapes(row, layout.shapes)

    def _count(self, layout: Layout) -> int:
        return max(1, whole(self.ratio * layout.num_numbers))

    def _drawn(self, layout: Layout, chance: Stream | None) -> Ints:
        """Return the places of random numbers, rising."""
        assert chance is not None
        drawn = chance.generator().choice(
            layout.num_numbers, self._count(layout), replace=False, shuffle=False
        )
        drawn.sort()
        return drawn
