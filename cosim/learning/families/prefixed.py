"""Keys and values in front of those of a sequence."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cosim.learning.families.kernels import causal_mask


class PrefixVectors(nn.Module):
    """What a block's attention sees beside the sequence.

    Parameters
    ----------
    size
        How many keys and values, and how wide all heads are together.
    like
        A weight of the model; beside bfloat16 the vectors are float32.
    """

    def __init__(self, size: tuple[int, int], like: Tensor) -> None:
        super().__init__()
        dtype = torch.float32 if like.dtype == torch.bfloat16 else like.dtype
        self.keys = nn.Parameter(torch.zeros(size, dtype=dtype, device=like.device))
        self.values = nn.Parameter(torch.zeros(size, dtype=dtype, device=like.device))

    def before(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return both with the vectors in front, shape (batch_size, heads, count + length, head_dim)."""
        return _in_front(self.keys, keys), _in_front(self.values, values)


def _in_front(vectors: Tensor, sequence: Tensor) -> Tensor:
    batch_size, heads, _, head_dim = sequence.shape
    split = vectors.to(sequence.dtype).view(1, -1, heads, head_dim).transpose(1, 2)
    return torch.cat((split.expand(batch_size, -1, -1, -1), sequence), dim=2)


def seen_mask(mask: Tensor | None, is_causal: bool, count: int, like: Tensor) -> Tensor | None:
    """Return what is added to scores behind ``count`` vectors that all see; ``like`` are the queries."""
    if mask is None and is_causal:
        mask = causal_mask(like.shape[2], like.dtype, like.device)
    return None if mask is None else functional.pad(mask, (count, 0))
