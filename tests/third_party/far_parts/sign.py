"""Codec: one bit for each number."""

from typing import Literal

import numpy as np

from cosim.learning.codec import Codec, Encoded, Layout, Sending, Tensors, added, difference
from cosim.learning.codec.packing import tensor_bytes, tensor_of


class Sign(Codec):
    """Sends signs, and the mean size of each tensor's numbers; what that misses is sent next time.

    Source
    ------
    S. P. Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019.
    """

    kind: Literal["far_sign"] = "far_sign"

    @property
    def keeps_memory(self) -> bool:
        """Always: signs alone do not converge."""
        return True

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return a number for each tensor, and a bit for each number."""
        return layout.bits_per_number * len(layout.shapes) + layout.num_numbers

    def encode(self, sending: Sending) -> Encoded:
        """Return all sizes, then all signs."""
        lacking = difference(sending)
        sizes = b"".join(tensor_bytes(tensor.abs().mean()) for tensor in lacking.values())
        signs = np.concatenate([(tensor >= 0).cpu().numpy().reshape(-1) for tensor in lacking.values()])
        return Encoded(sizes + np.packbits(signs).tobytes(), 8 * len(sizes) + len(signs))

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return plus or minus the size."""
        import torch

        width, begin = layout.bits_per_number // 8, 0
        packed = np.frombuffer(payload[width * len(layout.shapes) :], dtype=np.uint8)
        signs = torch.from_numpy(np.unpackbits(packed)[: layout.num_numbers].astype(np.float32)) * 2 - 1
        tensors = {}
        for number, (name, shape) in enumerate(layout.shapes.items()):
            size = tensor_of(payload[width * number : width * (number + 1)], (), layout.dtype)
            count = layout.sizes[name]
            tensors[name] = size * signs[begin : begin + count].to(layout.dtype).reshape(shape)
            begin += count
        return added(tensors, reference)
