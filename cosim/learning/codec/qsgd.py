"""Stochastic uniform quantisation."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.codec import Codec, Encoded, Layout, Sending, Tensors, added, difference
from cosim.learning.codec.levels import norm_format, num_buckets, quantised, signed_levels, steps
from cosim.learning.codec.packing import packed, unpacked


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

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return the bits of all norms, signs and levels."""
        norms = sum(num_buckets(size, self.bucket_size) for size in layout.sizes.values())
        return 8 * norm_format(layout).itemsize * norms + self.width * layout.num_numbers

    def encode(self, sending: Sending) -> Encoded:
        """Return all norms, then sign and level of every number."""
        layout = Layout.of(sending.tensors)
        rng = np.random.Generator(np.random.Philox(key=sending.seed))
        norms, codes = [], []
        for tensor in difference(sending).values():
            values = tensor.double().cpu().numpy().reshape(-1)
            draws = rng.random(len(values))
            found = quantised(values, draws, self.levels, self.bucket_size, self.norm, norm_format(layout))
            norms.append(found[0])
            codes.append(found[1])
        content = [norm.tobytes() for norm in norms]
        return Encoded(b"".join((*content, packed(np.concatenate(codes), self.width))), self.bits(layout))

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return norm times sign times level over the number of levels."""
        import torch

        format_, sizes = norm_format(layout), layout.sizes
        num_norms = sum(num_buckets(size, self.bucket_size) for size in sizes.values())
        norms = np.frombuffer(payload, dtype=format_, count=num_norms).astype(float)
        codes = unpacked(payload[num_norms * format_.itemsize :], layout.num_numbers, self.width)
        signed = signed_levels(codes, self.width)
        tensors, begin, first = {}, 0, 0
        for name, size in sizes.items():
            last = first + num_buckets(size, self.bucket_size)
            scale = steps(norms[first:last], self.levels, self.bucket_size, size)
            values = torch.from_numpy(signed[begin : begin + size]) * torch.from_numpy(scale)
            tensors[name] = values.to(layout.dtype).reshape(layout.shapes[name])
            begin, first = begin + size, last
        return added(tensors, reference)
