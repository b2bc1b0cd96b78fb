"""Stochastic uniform quantisation."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.codec import Codec, Encoded, Layout, Sending, Tensors, added, difference
from cosim.learning.codec.packing import packed, unpacked
from cosim.units import Floats


class Qsgd(Codec):
    """Sends the norm of each bucket, and of each number its sign and one of a few levels, drawn unbiased.

    With norm ``n`` and ``s`` levels, a number ``v`` becomes ``n sign(v) l / s``,
    where ``l`` is one of the two whole numbers beside ``s |v| / n``, drawn so
    that its mean is ``v``. With the 2-norm of ``d`` numbers, the squared error
    is in the mean at most ``min(d / s^2, sqrt(d) / s)`` times the squared norm;
    with the largest magnitude, at most ``d n^2 / (4 s^2)``. The difference to
    the reference is sent where there is one.

    Each number takes ``1 + ceil(log2(s + 1))`` bits, each bucket 32 for its
    norm (64 for float64). The paper codes levels with Elias' integer code, whose
    length depends on the values and is shorter where most levels are 0; the width
    here is fixed, so that the bits are known before the values are. What is not finite
    makes its whole bucket not a number.

    Attributes
    ----------
    levels
        Levels above 0: 1 is ternary, 127 takes 8 bits a number with its sign.
    bucket_size
        Numbers that share a norm, counted along each tensor; None for whole tensors.
    norm
        ``l2`` as in the analysis, or ``max``, the largest magnitude, as in the paper's experiments.

    Source
    ------
    D. Alistarh et al., "QSGD: communication-efficient SGD via gradient quantization
    and encoding", NeurIPS 2017, section 3.1, theorem 3.2 and lemma 3.1; buckets
    and the scaling by the maximum, section 4.
    """

    kind: Literal["qsgd"] = "qsgd"
    needs_chance: ClassVar[bool] = True
    levels: int = Field(default=127, ge=1, le=2**15 - 1)
    bucket_size: int | None = Field(default=512, ge=1)
    norm: Literal["l2", "max"] = "l2"
    examples: ClassVar = (
        {},
        {"levels": 1, "bucket_size": None},
        {"levels": 5, "bucket_size": 7, "norm": "max"},
    )

    @property
    def width(self) -> int:
        """Bits of a number."""
        return 1 + self.levels.bit_length()

    def bits(self, layout: Layout, keep_ratio: float | None = None) -> int:
        """Return the bits of all norms, signs and levels."""
        norms = sum(self._num_buckets(size) for size in layout.sizes.values())
        return 8 * _norm_format(layout).itemsize * norms + self.width * layout.num_numbers

    def encode(self, sending: Sending) -> Encoded:
        """Return all norms, then sign and level of every number."""
        layout = Layout.of(sending.tensors)
        rng = np.random.Generator(np.random.Philox(key=sending.seed))
        norms, codes = [], []
        for tensor in difference(sending).values():
            found = self._quantised(tensor.double().cpu().numpy().reshape(-1), _norm_format(layout), rng)
            norms.append(found[0])
            codes.append(found[1])
        content = [norm.tobytes() for norm in norms]
        return Encoded(b"".join((*content, packed(np.concatenate(codes), self.width))), self.bits(layout))

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        keep_ratio: float | None = None,
    ) -> Tensors:
        """Return norm times sign times level over the number of levels."""
        import torch

        norm_format, sizes = _norm_format(layout), layout.sizes
        num_norms = sum(self._num_buckets(size) for size in sizes.values())
        norms = np.frombuffer(payload, dtype=norm_format, count=num_norms).astype(float)
        codes = unpacked(payload[num_norms * norm_format.itemsize :], layout.num_numbers, self.width)
        sign_bit = 1 << (self.width - 1)
        signed = np.where(codes & sign_bit, -1.0, 1.0) * (codes & (sign_bit - 1))
        tensors, begin, first = {}, 0, 0
        for name, size in sizes.items():
            last = first + self._num_buckets(size)
            scale = np.repeat(norms[first:last] / self.levels, self.bucket_size or size)[:size]
            values = torch.from_numpy(signed[begin : begin + size]) * torch.from_numpy(scale)
            tensors[name] = values.to(layout.dtype).reshape(layout.shapes[name])
            begin, first = begin + size, last
        return added(tensors, reference)

    def _num_buckets(self, size: int) -> int:
        return -(-size // (self.bucket_size or max(size, 1)))

    def _quantised(
        self, values: Floats, norm_format: np.dtype[np.floating], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the norms of a tensor's buckets, as they travel, and the codes of its numbers."""
        num_buckets = self._num_buckets(len(values))
        padded = np.zeros(num_buckets * (self.bucket_size or len(values)))
        padded[: len(values)] = np.abs(values)
        buckets = padded.reshape(num_buckets, -1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            exact = np.linalg.norm(buckets, axis=1) if self.norm == "l2" else buckets.max(axis=1, initial=0.0)
            norms = exact.astype(norm_format)
            # never below the largest number: the levels must reach it, or the draw is biased
            norms = np.where(norms < exact, np.nextafter(norms, norm_format.type(np.inf)), norms)
            scaled = buckets / norms.astype(float)[:, None] * self.levels
        scaled = np.where(np.isfinite(scaled), scaled, 0.0).reshape(-1)[: len(values)]
        below = np.floor(scaled)
        levels = np.minimum(below + (rng.random(len(values)) < scaled - below), self.levels).astype(np.int64)
        return norms.astype(norm_format), levels | np.signbit(values).astype(np.int64) << (self.width - 1)


def _norm_format(layout: Layout) -> np.dtype[np.floating]:
    """Return the format a norm travels in: single precision, but for double precision numbers."""
    return np.dtype("<f8" if layout.bits_per_number == 64 else "<f4")
