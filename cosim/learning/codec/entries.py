"""The numbers of several tensors in a row, and the largest among them by their places."""

from collections.abc import Collection, Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor


def whole(number: float) -> int:
    """Round down, but for what is a whole number up to rounding: 0.29 of 100 is 29."""
    return int(number + 1e-9)


def place_bits(size: int, count: int) -> int:
    """Return the bits that name one of ``size`` places; none where all of them are sent.

    Examples
    --------
    >>> place_bits(1000, 10), place_bits(10, 10)
    (10, 0)
    """
    return max(size - 1, 0).bit_length() if count < size else 0


def flat(tensors: "Mapping[str, Tensor]", names: Collection[str]) -> "Tensor":
    """Return the numbers of these tensors in a row."""
    import torch

    return torch.cat([tensors[name].reshape(-1) for name in names])


def in_shapes(numbers: "Tensor", shapes: Mapping[str, tuple[int, ...]]) -> "dict[str, Tensor]":
    """Return the tensors of these shapes that a row of numbers holds, each in memory of its own."""
    import torch

    parts = torch.split(numbers, [prod(shape) for shape in shapes.values()])
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(shape).clone() for (name, shape), part in named}


def magnitudes(numbers: "Tensor") -> NDArray[np.floating]:
    """Return the magnitudes of a row of numbers, for numpy."""
    import torch

    found = numbers.detach().abs()
    if found.dtype == torch.bfloat16:  # numpy has none
        found = found.float()
    array: NDArray[np.floating] = found.cpu().numpy()
    return array


def largest(magnitudes: NDArray[np.floating], count: int) -> Ints:
    """Return the places of the largest numbers, rising; of equal ones the first, and NaN before all."""
    size = len(magnitudes)
    if count in (0, size):
        return np.arange(count)
    known = np.where(np.isnan(magnitudes), magnitudes.dtype.type(np.inf), magnitudes)
    least = np.partition(known, size - count)[size - count]
    chosen = known > least
    equal = np.flatnonzero(known == least)
    chosen[equal[: count - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)
