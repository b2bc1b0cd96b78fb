"""Coordinates on truncated normal directions, block by block, in place of an update."""

from collections.abc import Iterator, Mapping, Sequence
from math import erf, exp, pi, sqrt
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.codec import SEED_BITS, Layout
from cosim.learning.codec.entries import flat, in_shapes
from cosim.learning.update import NORMAL_FLOP, Applied, Tensors, UpdateStep
from cosim.rng import Stream, stream
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_NUMBERS = 1 << 20
"""Numbers of directions that are in memory at a time; half as many where a draw is worked on."""


class Ferret(UpdateStep):
    """Sends the coordinates of the update on ``num_coordinates`` random directions, block by block.

    A direction of a block of ``d`` numbers is normal and truncated to ``1/sqrt(d)`` on either side, so
    its numbers have a variance ``s^2`` close to ``1/(3 d)``. With the ``K`` directions ``V`` of a block
    the receiver has ``V' V u / (K s^2)`` for an update ``u``: right in the mean, with the squared error
    ``(d + q - 2) / K`` times the squared norm of ``u``; ``q`` is the kurtosis of the numbers, close to 9/5.
    A block is consecutive tensors, joined while they stay below 0.9 of the median size of a tensor. Both ends
    draw the directions from a seed of 32 bits, a chunk at a time. The FLOP at either end are
    a draw, a product and a sum for each number of each direction.

    Attributes
    ----------
    num_coordinates
        Numbers that travel, of all blocks together; a block has at least one.
    budget
        What a block's share of them goes by: its ``size``; none, ``equal`` shares; the ``norm`` of its
        update; or ``norm_root_size``, the norm times the root of its size, which makes the error least
        at this many coordinates. By norms the shares are each client's own and travel with the update, and
        the FLOP charged are the most there can be.
    seeds
        ``fresh`` directions each round, which all draw alike; ``fixed`` ones for the run; or
        each client's ``own`` each round, whose seed travels with the update.
    scale
        ``unbiased``; ``code``, as the authors' code has it, ``d / K`` in the place of ``3 d / K``, a third
        in the mean; or ``shrunk``, unbiased times ``K / (K + d + q - 2)``, which makes the error least.
    relayed
        Whether the server hands on coordinates, and every client rebuilds the average from them: the sum of
        all where directions are shared, else those of each. Without it averages come back as they are.

    Source
    ------
    Y. Shu et al., "Ferret: federated full-parameter tuning at scale for large language models", ICML 2025,
    arXiv 2409.06277. Directions, blocks, the budget by norm and the scale ``code`` were seen in the authors'
    code, which fixes the seeds for the run and shares them; fresh seeds and ``3 d / K`` are of a note on
    the paper. Error, shrinking and ``norm_root_size`` are re-derived. We depart: the number of coordinates
    is given in all, so that no value decides bits, where the code gives the block of the largest update K
    and others less; clients use all shared directions, not a random choice; no step along one is clipped.
    """

    kind: Literal["ferret"] = "ferret"
    keeps_layout: ClassVar[bool] = False
    less_lost: ClassVar[str] = "scale = 'shrunk'"
    summed_with: ClassVar[str] = "seeds = 'fresh' and budget = 'size'"
    num_coordinates: int = Field(default=2048, ge=1)
    budget: Literal["size", "equal", "norm", "norm_root_size"] = "size"
    seeds: Literal["fresh", "fixed", "own"] = "fresh"
    scale: Literal["unbiased", "code", "shrunk"] = "unbiased"
    relayed: bool = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"num_coordinates": 60},
        {"num_coordinates": 30, "seeds": "own", "budget": "norm"},
        {"num_coordinates": 40, "seeds": "fixed", "scale": "shrunk", "relayed": False},
        {"num_coordinates": 12, "budget": "norm_root_size", "scale": "code"},
        {"num_coordinates": 12, "budget": "equal"},
    )

    @property
    def chance(self) -> Literal["none", "own", "common", "fixed"]:
        """As the seeds."""
        chances: dict[str, Literal["own", "common", "fixed"]] = {"fresh": "common", "fixed": "fixed"}
        return chances.get(self.seeds, "own")

    @property
    def is_summable(self) -> bool:
        """Where all have the same directions, and as many of each block."""
        return self.seeds != "own" and not self._goes_by_norms

    @property
    def is_relayed(self) -> bool:
        """As set."""
        return self.relayed

    @property
    def loses_a_part(self) -> bool:
        """Only where the error is made least."""
        return self.scale == "shrunk"

    @property
    def _goes_by_norms(self) -> bool:
        return self.budget.startswith("norm")

    def why_unsendable(self, layout: Layout) -> str | None:
        """Say where there are more blocks than coordinates."""
        count = len(block_sizes(layout))
        if self.num_coordinates >= count:
            return None
        return (
            f"num_coordinates {self.num_coordinates} leaves some of the {count} blocks of the update below "
            f"one coordinate; give it {count} or more"
        )

    def layout(self, layout: Layout) -> Layout:
        """Return the coordinates."""
        return Layout({"coordinates": (self.num_coordinates,)}, layout.bits_per_number)

    def rows(self, layout: Layout) -> tuple[tuple[int, int], ...]:
        """Return a seed of one's own, and shares by norms."""
        seed = ((1, SEED_BITS),) if self.seeds == "own" else ()
        width = self.num_coordinates.bit_length()
        return (*seed, *(((len(block_sizes(layout)), width),) if self._goes_by_norms else ()))

    def encode_flop(self, layout: Layout) -> int:
        """Return a draw, a product and a sum for each number of each direction; two a number for norms."""
        return self.decode_flop(layout) + (2 * layout.num_numbers if self._goes_by_norms else 0)

    def decode_flop(self, layout: Layout) -> int:
        """Return a draw, a product and a sum for each number of each direction."""
        sizes = block_sizes(layout)
        if self._goes_by_norms:  # all but one coordinate of each block are in the largest
            numbers = sum(sizes) + (self.num_coordinates - len(sizes)) * max(sizes)
        else:
            numbers = sum(count * size for count, size in zip(self._counts(sizes), sizes, strict=True))
        return (NORMAL_FLOP + 2) * numbers

    def apply(self, numbers: Tensors, chance: Stream | None) -> Applied:
        """Return the coordinates times ``1 / (s sqrt(K))``, so that their norm is close to the update's."""
        import torch

        assert chance is not None
        layout, seed = Layout.of(numbers), _seed_of(chance)
        row, sizes = flat(numbers, numbers).detach().cpu(), block_sizes(layout)
        counts = self._counts(sizes, [float(one.double().norm()) for one in torch.split(row, sizes)])
        found = []
        for block, (update, count) in enumerate(zip(torch.split(row, sizes), counts, strict=True)):
            inner = torch.zeros(count, dtype=torch.float64)
            for begin, directions in drawn(seed, block, count, len(update)):
                inner += directions.to(row.dtype) @ update[begin : begin + directions.shape[1]]
            found.append(inner / (count**0.5 * moments(len(update))[0]))
        own = [np.array([seed])] if self.seeds == "own" else []
        shares = [np.array(counts)] if self._goes_by_norms else []
        coordinates = torch.cat(found).to(next(iter(numbers.values())))
        return Applied({"coordinates": coordinates}, [*own, *shares])

    def restore(
        self, numbers: "Mapping[str, Tensor]", packed: Sequence[Ints], layout: Layout, chance: Stream | None
    ) -> Tensors:
        """Return the sum of the directions of each block, each times its coordinate, scaled."""
        import torch

        rest = list(packed)
        if self.seeds == "own":
            seed = int(rest.pop(0)[0])
        else:
            assert chance is not None
            seed = _seed_of(chance)
        sizes = block_sizes(layout)
        counts = [int(one) for one in rest[0]] if rest else self._counts(sizes)
        coordinates = torch.split(numbers["coordinates"].detach().cpu(), counts)
        row = torch.empty(layout.num_numbers, dtype=layout.dtype)
        for block, (given, update) in enumerate(zip(coordinates, torch.split(row, sizes), strict=True)):
            scaled = given.to(layout.dtype) * self._scale(len(given), len(update))
            for begin, directions in drawn(seed, block, len(given), len(update)):
                update[begin : begin + directions.shape[1]] = scaled @ directions.to(layout.dtype)
        return in_shapes(row, layout.shapes)

    def _scale(self, count: int, size: int) -> float:
        """Return what a coordinate is multiplied by at the receiver."""
        deviation, kurtosis = moments(size)
        unbiased = 1.0 / (deviation * sqrt(count))
        if self.scale == "code":  # the inner product is deviation * sqrt(count) times the coordinate
            return size / count * deviation * sqrt(count)
        return unbiased * count / (count + size + kurtosis - 2.0) if self.scale == "shrunk" else unbiased

    def _counts(self, sizes: Sequence[int], norms: Sequence[float] | None = None) -> list[int]:
        """Return the coordinates of each block: one, and its share of the rest, largest remainders first."""
        shares = np.ones(len(sizes)) if self.budget == "equal" else np.array(sizes, dtype=float)
        if self._goes_by_norms:
            assert norms is not None
            shares = np.array(norms) * (shares**0.5 if self.budget == "norm_root_size" else 1.0)
            shares = shares if 0.0 < shares.sum() < np.inf else np.ones(len(sizes))
        return shared_out(self.num_coordinates, shares)


def block_sizes(layout: Layout) -> list[int]:
    """Return the sizes of the blocks, consecutive tensors joined while below 0.9 of the median.

    Examples
    --------
    >>> block_sizes(Layout({"bias": (4,), "norm": (4,), "matrix": (10, 10), "next": (10, 10)}))
    [8, 100, 100]
    """
    each = list(layout.sizes.values())
    most, sizes = int(0.9 * median(each)), list[int]()
    for size in each:
        if sizes and sizes[-1] + size <= most:
            sizes[-1] += size
        else:
            sizes.append(size)
    return sizes


def shared_out(total: int, shares: Floats) -> list[int]:
    """Return whole numbers of this total, at least 1 each, whose shares beyond are as given.

    Examples
    --------
    >>> shared_out(10, np.array([1.0, 0.0, 3.0]))
    [3, 1, 6]
    """
    exact = (total - len(shares)) * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    left = total - len(shares) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return [int(count) + 1 for count in counts]


def moments(size: int) -> tuple[float, float]:
    """Return standard deviation and kurtosis of a standard normal truncated to ``1/sqrt(size)``.

    Examples
    --------
    >>> deviation, kurtosis = moments(1000)
    >>> round(3000 * deviation**2, 3), round(kurtosis, 3)
    (1.0, 1.8)
    """
    end = size**-0.5
    if size > 10_000:  # the differences below cancel; these are their series
        return sqrt((1.0 - 2.0 * end**2 / 15.0) / 3.0) * end, 1.8 + 24.0 * end**2 / 175.0
    edge = 2.0 * end * exp(-(end**2) / 2.0) / sqrt(2.0 * pi) / erf(end / sqrt(2.0))
    variance = 1.0 - edge
    fourth = 3.0 * variance - end**2 * edge
    return sqrt(variance), fourth / variance**2


def drawn(seed: int, block: int, count: int, size: int) -> "Iterator[tuple[int, Tensor]]":
    """Return the directions of a block a chunk of columns at a time: first column, shape (count, columns).

    By the inverse of the distribution, in float32, at one of 2^16 evenly spaced probabilities: four numbers
    of each word of the generator, which is two fifths of the time of one drawn as float32.
    """
    import torch

    width = max(1, CHUNK_NUMBERS // count)
    edge = erf((2.0 * size) ** -0.5)
    for begin in range(0, size, width):
        columns = min(width, size - begin)
        words = np.random.Philox(key=stream(seed, "directions", block, begin).key)
        levels = words.random_raw(-(-count * columns // 4)).astype("<u8").view("<i2")[: count * columns]
        uniform = torch.from_numpy(levels.reshape(count, columns)).to(torch.float32)  # -2^15 to 2^15 - 1
        yield begin, uniform.add_(0.5).mul_(edge / 2**15).erfinv_().mul_(sqrt(2.0))


def _seed_of(chance: Stream) -> int:
    seed: int = chance.key & (2**SEED_BITS - 1)
    return seed
