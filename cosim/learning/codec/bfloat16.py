"""Tensors in bfloat16."""

from typing import TYPE_CHECKING, Literal

from cosim.learning.codec.narrow import Narrow

if TYPE_CHECKING:
    import torch


class Bfloat16(Narrow):
    """Sends every number in bfloat16: 8 significant bits, the range of float32.

    Source
    ------
    D. Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019.
    """

    kind: Literal["bfloat16"] = "bfloat16"

    @property
    def format(self) -> "torch.dtype":
        """The upper half of float32."""
        import torch

        return torch.bfloat16
