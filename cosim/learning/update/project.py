"""Coordinates on random directions in place of an update."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.codec.entries import flat, in_shapes
from cosim.learning.update import NORMAL_FLOP, Applied, Tensors, UpdateStep
from cosim.rng import Stream
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK_NUMBERS = 1 << 20  # of the directions, in memory at a time


class Project(UpdateStep):
    """Sends the coordinates of the update on ``num_directions`` normal directions that all draw alike.

    With directions ``S``, of K rows and d columns of independent normal numbers, the
    coordinates of an update ``u`` are ``S u / sqrt(K)``, and the receiver has ``S' S u / K``:
    right in the mean, with the squared error ``(d + 1) / K`` times the squared norm of ``u``.
    The directions are the same for all clients of a round and others in the next; both ends
    draw them from a seed, a block at a time. The FLOP at either end are a draw, a product and
    a sum for each number of each direction.

    Attributes
    ----------
    num_directions
        Numbers that travel.
    unbiased
        Without it the receiver scales by ``K / (K + d + 1)``, which makes the error least, and
        less than the update: what error feedback needs.

    Source
    ------
    W. B. Johnson, J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984,
    for the directions; the error follows from ``E |S'S u|^2 = K (K + d + 1) |u|^2``.
    """

    kind: Literal["project"] = "project"
    keeps_layout: ClassVar[bool] = False
    less_lost: ClassVar[str] = "unbiased = false"
    num_directions: int = Field(default=256, ge=1)
    unbiased: bool = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"num_directions": 40, "unbiased": False},
    )

    @property
    def chance(self) -> Literal["none", "own", "common"]:
        """Common."""
        return "common"

    @property
    def is_summable(self) -> bool:
        """Coordinates of a sum are the sum of the coordinates."""
        return True

    @property
    def loses_a_part(self) -> bool:
        """Only where the error is made least."""
        return not self.unbiased

    def layout(self, layout: Layout) -> Layout:
        """Return the coordinates."""
        return Layout({"coordinates": (self.num_directions,)}, layout.bits_per_number)

    def encode_flop(self, layout: Layout) -> int:
        """Return a draw, a product and a sum for each number of each direction."""
        return (NORMAL_FLOP + 2) * self.num_directions * layout.num_numbers

    def decode_flop(self, layout: Layout) -> int:
        """Return the same."""
        return self.encode_flop(layout)

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the coordinates."""
        import torch

        row = flat(numbers, numbers).detach()
        values, found = row.double().cpu(), torch.zeros(self.num_directions, dtype=torch.float64)
        for begin, directions in self._blocks(len(values), chance):
            found += directions @ values[begin : begin + directions.shape[1]]
        return Applied({"coordinates": (found / self.num_directions**0.5).to(row)})

    def restore(
        self, numbers: "Mapping[str, Tensor]", packed: Sequence[Ints], layout: Layout, chance: Stream | None
    ) -> Tensors:
        """Return the mean of the directions, each times its coordinate."""
        import torch

        count, size = self.num_directions, layout.num_numbers
        scale = count**-0.5 if self.unbiased else count**0.5 / (count + size + 1)
        coordinates = scale * numbers["coordinates"].detach().double().cpu()
        row = torch.empty(size, dtype=torch.float64)
        for begin, directions in self._blocks(size, chance):
            row[begin : begin + directions.shape[1]] = coordinates @ directions
        return in_shapes(row.to(layout.dtype), layout.shapes)

    def _blocks(self, size: int, chance: Stream | None) -> "Iterator[tuple[int, Tensor]]":
        """Return the directions a block of columns at a time: the first column, shape (K, columns).

        As tensors: products of numpy's differ in last bits with where an array begins in memory.
        """
        import torch

        assert chance is not None
        width = max(1, _BLOCK_NUMBERS // self.num_directions)
        for begin in range(0, size, width):
            columns = min(width, size - begin)
            drawn = chance.child(begin).generator().standard_normal((self.num_directions, columns))
            yield begin, torch.from_numpy(drawn)
