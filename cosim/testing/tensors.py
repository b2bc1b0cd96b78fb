"""Named tensors for contracts: drawn from a seed, and compared bit by bit."""

import torch
from torch import Tensor


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return two tensors of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator, dtype=dtype) for name, size in (("a", 3), ("b", 5))}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Return whether names and all bits are the same."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
