"""Numbers as bytes: tensors by their own bits, and small whole numbers in a fixed width each.

Bytes are little endian, as safetensors has them; within a packed row of whole
numbers the highest bit of each comes first.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cosim.units import Ints

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Bits = NDArray[np.uint8]


def tensor_bytes(tensor: "Tensor") -> bytes:
    """Return the numbers of a tensor, row by row, in its own format."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def tensor_of(content: bytes, shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
    """Return the tensor that :func:`tensor_bytes` wrote."""
    import torch

    if not prod(shape):
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)


def packed(numbers: Ints, width: int) -> bytes:
    """Return whole numbers below ``2**width`` in ``width`` bits each; the last byte is filled with zeros.

    Examples
    --------
    >>> packed(np.array([1, 2, 3]), 4).hex()
    '1230'
    """
    if width % 8:
        return packed_rows([(numbers, width)])
    wide = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    return wide[:, 8 - width // 8 :].tobytes()


def packed_rows(rows: Iterable[tuple[Ints, int]]) -> bytes:
    """Return rows of whole numbers, each in a width of its own, bit after bit without a gap."""
    bits: list[Bits] = [np.empty(0, dtype=np.uint8)]
    for numbers, width in rows:
        row: Bits = np.empty((len(numbers), width), dtype=np.uint8)
        for place in range(width):
            row[:, place] = (numbers >> (width - 1 - place)) & 1
        bits.append(row.reshape(-1))
    return np.packbits(np.concatenate(bits)).tobytes()


def unpacked(content: bytes, count: int, width: int) -> Ints:
    """Return the ``count`` numbers that :func:`packed` wrote."""
    if width % 8:
        return unpacked_rows(content, [(count, width)])[0]
    columns = np.frombuffer(content, dtype=np.uint8, count=count * width // 8).reshape(count, width // 8).T
    numbers = np.zeros(count, dtype=np.int64)
    for column in columns:
        numbers = (numbers << 8) | column
    return numbers


def unpacked_rows(content: bytes, rows: Sequence[tuple[int, int]]) -> list[Ints]:
    """Return the rows that :func:`packed_rows` wrote, of so many numbers in so many bits each."""
    num_bits = sum(count * width for count, width in rows)
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=num_bits)
    found, begin = [], 0
    for count, width in rows:
        row = bits[begin : begin + count * width].reshape(count, width)
        begin += count * width
        numbers = np.zeros(count, dtype=np.int64)
        for place in range(width):
            numbers = (numbers << 1) | row[:, place]
        found.append(numbers)
    return found
