"""Codecs that send every number in a narrower format."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from cosim.learning.codec import Codec, Encoded, Layout, Sending, Tensors, added, difference
from cosim.learning.codec.packing import tensor_bytes, tensor_of

if TYPE_CHECKING:
    import torch


class Narrow(Codec):
    """Sends numbers rounded to 16 bits: the difference to the reference where there is one.

    Rounding is to nearest, ties to even, and deterministic.
    """

    @property
    @abstractmethod
    def format(self) -> "torch.dtype":
        """The format that travels, of 16 bits."""

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return 16 bits for each number."""
        return 16 * layout.num_numbers

    def encode(self, sending: Sending) -> Encoded:
        """Return the rounded numbers, one tensor after the other."""
        pieces = [tensor_bytes(tensor.to(self.format)) for tensor in difference(sending).values()]
        payload = b"".join(pieces)
        return Encoded(payload, 8 * len(payload))

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return the rounded numbers in the format they are computed in."""
        tensors, begin = {}, 0
        for name, size in layout.sizes.items():
            rounded = tensor_of(payload[begin : begin + 2 * size], layout.shapes[name], self.format)
            tensors[name] = rounded.to(layout.dtype)
            begin += 2 * size
        return added(tensors, reference)
