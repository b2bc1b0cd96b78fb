"""Tensors as they are."""

from typing import Literal

from cosim.learning.codec import Codec, Encoded, Layout, Received, Sending, Tensors
from cosim.learning.codec.packing import tensor_bytes, tensor_of


class Plain(Codec):
    """Sends every number in the format it is computed in; the receiver has the very tensors."""

    kind: Literal["none"] = "none"

    @property
    def is_transparent(self) -> bool:
        """Always."""
        return True

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return the bits of all numbers."""
        return layout.dense_bits

    def encode(self, sending: Sending) -> Encoded:
        """Return the numbers, one tensor after the other."""
        payload = b"".join(tensor_bytes(tensor) for tensor in sending.tensors.values())
        return Encoded(payload, 8 * len(payload))

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return the tensors."""
        tensors, begin = {}, 0
        for name, size in layout.sizes.items():
            end = begin + size * layout.bits_per_number // 8
            tensors[name] = tensor_of(payload[begin:end], layout.shapes[name], layout.dtype)
            begin = end
        return tensors

    def transmit(self, sending: Sending) -> Received:
        """Return the very tensors."""
        Layout.of(sending.tensors)
        encoded = self.encode(sending)
        return Received(sending.tensors, encoded.payload, encoded.bits)
