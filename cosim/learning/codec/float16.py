"""Tensors in IEEE half precision."""

from typing import TYPE_CHECKING, Literal

from cosim.learning.codec.narrow import Narrow

if TYPE_CHECKING:
    import torch


class Float16(Narrow):
    """Sends every number in half precision: 11 significant bits, up to 65504.

    What is larger arrives as infinity, and what is below 6e-8 as zero: nothing
    is scaled.

    Source
    ------
    IEEE 754-2019, binary16.
    """

    kind: Literal["float16"] = "float16"

    @property
    def format(self) -> "torch.dtype":
        """IEEE binary16."""
        import torch

        return torch.float16
