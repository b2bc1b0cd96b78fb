"""Levels in place of numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from cosim.learning.codec import Layout
from cosim.learning.codec.entries import flat, in_shapes
from cosim.learning.codec.levels import norm_format, num_buckets, quantised, signed_levels, steps
from cosim.learning.update import Applied, Tensors, UpdateStep
from cosim.rng import Stream
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor


class Quantise(UpdateStep):
    """Rounds each number to one of evenly spaced levels, right in the mean, of the largest of its bucket.

    A number takes ``bits`` with its sign, and each bucket the magnitude of its largest number. With a
    step ``d`` between levels a number that lies a share ``f`` of a step above a level has the variance
    ``f (1 - f) d^2`` where it is rounded by chance alone; with ``dithered`` the receiver takes off the
    draw, which it knows, and the error has the variance ``d^2 / 12`` whatever the number is.

    Attributes
    ----------
    bits
        Of a number, its sign included.
    bucket_size
        Numbers that share a scale, counted along the whole update; None for all of them.
    rounding
        ``stochastic``: the receiver has the level; ``dithered``: the level less the draw.

    Source
    ------
    Stochastic: D. Alistarh et al., "QSGD", NeurIPS 2017, section 4, with the largest number as
    the norm. Subtractive dither: L. Schuchman, "Dither signals and their effect on quantization
    noise", IEEE Trans. Commun. Technol., 1964; in federated learning N. Shlezinger et al., "UVeQFed",
    IEEE Trans. Signal Process., 2021, with one dimension.
    """

    kind: Literal["quantise"] = "quantise"
    keeps_layout: ClassVar[bool] = False
    is_last: ClassVar[bool] = True
    less_lost: ClassVar[str] = "more bits, or a smaller bucket_size"
    bits: int = Field(default=8, ge=2, le=16)
    bucket_size: int | None = Field(default=512, ge=1)
    rounding: Literal["stochastic", "dithered"] = "stochastic"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"bits": 2, "bucket_size": None, "rounding": "dithered"},
        {"bits": 5, "bucket_size": 7},
    )

    @property
    def chance(self) -> Literal["none", "own", "common"]:
        """Its own, which the receiver knows too."""
        return "own"

    @property
    def takes_bits(self) -> bool:
        """True."""
        return True

    def with_bits(self, bits: int) -> Self:
        """Return it at another width."""
        return self.model_copy(update={"bits": bits})

    @property
    def loses_a_part(self) -> bool:
        """Whether the variances of a bucket add up to less than the square of its largest number."""
        most = (12 if self.rounding == "dithered" else 4) * self._levels**2
        return self.bucket_size is not None and self.bucket_size <= most

    def layout(self, layout: Layout) -> Layout:
        """Return the scales, in the format norms travel in."""
        count = num_buckets(layout.num_numbers, self.bucket_size)
        return Layout({"scales": (count,)}, 8 * norm_format(layout).itemsize)

    def rows(self, layout: Layout) -> tuple[tuple[int, int], ...]:
        """Return the levels."""
        return ((layout.num_numbers, self.bits),)

    def encode_flop(self, layout: Layout) -> int:
        """Return four for each number: magnitude, scaling, draw, comparison."""
        return 4 * layout.num_numbers

    def decode_flop(self, layout: Layout) -> int:
        """Return one for each number, its scaling; with dither the draw and its difference too."""
        return (3 if self.rounding == "dithered" else 1) * layout.num_numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the scales, and the levels beside them."""
        import torch

        layout = Layout.of(numbers)
        values = flat(numbers, numbers).detach().double().cpu().numpy()
        scales, codes = quantised(
            values, self._draws(layout, chance), self._levels, self.bucket_size, "max", norm_format(layout)
        )
        return Applied({"scales": torch.from_numpy(scales)}, [codes])

    def restore(
        self, numbers: "Mapping[str, Tensor]", packed: Sequence[Ints], layout: Layout, chance: Stream | None
    ) -> Tensors:
        """Return scale times level over the number of levels, and with dither less the draw."""
        import torch

        (codes,), scales = packed, numbers["scales"].detach().double().cpu().numpy()
        levels = signed_levels(codes, self.bits)
        if self.rounding == "dithered":  # what was drawn up was by less than 1 - u, as often as not
            signs = 1.0 - 2.0 * (codes >> (self.bits - 1))
            levels = levels + signs * (self._draws(layout, chance) - 0.5)
        values = levels * steps(scales, self._levels, self.bucket_size, layout.num_numbers)
        return in_shapes(torch.from_numpy(values).to(layout.dtype), layout.shapes)

    @property
    def _levels(self) -> int:
        levels: int = (1 << (self.bits - 1)) - 1
        return levels

    def _draws(self, layout: Layout, chance: Stream | None) -> Floats:
        assert chance is not None
        draws: Floats = chance.generator().random(layout.num_numbers)
        return draws
