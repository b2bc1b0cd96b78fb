"""Numbers as a norm for each bucket and one of a few levels of it, drawn without bias."""

from typing import Literal

import numpy as np

from cosim.learning.codec import Layout
from cosim.units import Floats, Ints


def num_buckets(size: int, bucket_size: int | None) -> int:
    """Return how many norms a tensor of so many numbers has; one without a size of buckets."""
    return -(-size // (bucket_size or max(size, 1)))


def norm_format(layout: Layout) -> np.dtype[np.floating]:
    """Return the format a norm travels in: single precision, but for double precision numbers."""
    return np.dtype("<f8" if layout.bits_per_number == 64 else "<f4")


def quantised(
    values: Floats,
    draws: Floats,
    levels: int,
    bucket_size: int | None,
    norm: Literal["l2", "max"],
    format_: np.dtype[np.floating],
) -> tuple[np.ndarray, Ints]:
    """Return the norms of a tensor's buckets, as they travel, and sign and level of its numbers.

    A number ``v`` of a bucket of norm ``n`` gets the level ``floor(y + 1 - u)`` of ``y = levels |v| / n``,
    with its draw ``u`` uniform on [0, 1): in the mean ``y``. The sign is the highest bit of its code.

    Parameters
    ----------
    values, draws
        The numbers and the draw of each, shape (num_numbers,).
    levels
        Levels above 0.
    bucket_size
        Numbers that share a norm; None for all.
    norm, format_
        Which norm, and the format it travels in.
    """
    count = num_buckets(len(values), bucket_size)
    padded = np.zeros(count * (bucket_size or len(values)))
    padded[: len(values)] = np.abs(values)
    buckets = padded.reshape(count, -1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        exact = np.linalg.norm(buckets, axis=1) if norm == "l2" else buckets.max(axis=1, initial=0.0)
        norms = exact.astype(format_)
        # never below the largest number: the levels must reach it, or the draw is biased
        norms = np.where(norms < exact, np.nextafter(norms, format_.type(np.inf)), norms)
        scaled = buckets / norms.astype(float)[:, None] * levels
    scaled = np.where(np.isfinite(scaled), scaled, 0.0).reshape(-1)[: len(values)]
    below = np.floor(scaled)
    drawn = np.minimum(below + (draws < scaled - below), levels).astype(np.int64)
    return norms.astype(format_), drawn | np.signbit(values).astype(np.int64) << levels.bit_length()


def signed_levels(codes: Ints, width: int) -> Floats:
    """Return levels with their signs, from codes of so many bits."""
    sign_bit = 1 << (width - 1)
    return np.asarray(np.where(codes & sign_bit, -1.0, 1.0) * (codes & (sign_bit - 1)))


def steps(norms: Floats, levels: int, bucket_size: int | None, size: int) -> Floats:
    """Return what one level is worth for each number of a tensor, shape (size,)."""
    return np.repeat(norms / levels, bucket_size or size)[:size]
