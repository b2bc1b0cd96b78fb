"""Numbers as bytes: tensors by their own bits, and small whole numbers in a fixed width each.

Bytes are little endian, as safetensors has them; within a packed row of whole
numbers the highest bit of each comes first.
"""

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
    if width % 8 == 0:
        wide = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
        return wide[:, 8 - width // 8 :].tobytes()
    bits: Bits = np.empty((len(numbers), width), dtype=np.uint8)
    for place in range(width):
        bits[:, place] = (numbers >> (width - 1 - place)) & 1
    return np.packbits(bits).tobytes()


def unpacked(content: bytes, count: int, width: int) -> Ints:
    """Return the ``count`` numbers that :func:`packed` wrote."""
    numbers = np.zeros(count, dtype=np.int64)
    raw = np.frombuffer(content, dtype=np.uint8)
    if width % 8 == 0:
        for column in raw[: count * width // 8].reshape(count, width // 8).T:
            numbers = (numbers << 8) | column
        return numbers
    bits = np.unpackbits(raw, count=count * width).reshape(count, width)
    for place in range(width):
        numbers = (numbers << 1) | bits[:, place]
    return numbers
