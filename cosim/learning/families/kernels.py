"""Kernels of the blocks: attention and activations, each by one call of torch where there is one."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, float], Tensor]
"""``attend(queries, keys, values, mask, is_causal, scale)`` returns the mixed values.

Queries have shape (batch_size, heads, length, head_dim); keys and values may have fewer heads,
each for as many neighbouring heads of the queries. ``mask`` is added to the scores; without
one, ``is_causal`` hides what is later.
"""

_TANH_GELU = partial(functional.gelu, approximate="tanh")
_FUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_python": functional.gelu,
    "gelu_new": _TANH_GELU,
    "gelu_accurate": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "gelu_python_tanh": _TANH_GELU,
    "silu": functional.silu,
    "swish": functional.silu,
    "relu": functional.relu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return an activation by its name in a config: one kernel, or what transformers has.

    GPT-2's own GELU is eight kernels in transformers; torch has the same function as one.
    """
    if name in _FUSED:
        return _FUSED[name]
    from transformers.activations import get_activation

    found: Callable[[Tensor], Tensor] = get_activation(name)
    return found


def attend_fused(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """Attend by one kernel, which keeps no scores for the way back; :data:`Attend`."""
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=is_causal and mask is None,
        scale=scale,
        enable_gqa=keys.shape[1] != queries.shape[1],
    )


def attend_stepwise(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """Attend by two products and a softmax; :data:`Attend`.

    ``torch.func.vmap`` has a rule for each of them, and none for the fused kernel on a CPU.
    """
    keys, values = (_repeated(one, queries.shape[1]) for one in (keys, values))
    scores = torch.matmul(queries, keys.transpose(-1, -2)) * scale
    if mask is None and is_causal:
        mask = causal_mask(queries.shape[2], queries.dtype, queries.device)
    if mask is not None:
        scores = scores + mask
    return torch.matmul(scores.softmax(dim=-1), values)


def causal_mask(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what hides the future, shape (length, length), to be added to attention scores.

    The lowest finite number rather than minus infinity, as transformers has it, keeps an
    example of padding alone finite.
    """
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu(diagonal=1)


def _repeated(tensor: Tensor, num_heads: int) -> Tensor:
    """Return keys or values with one head for each head of the queries."""
    batch_size, heads, length, head_dim = tensor.shape
    if heads == num_heads:
        return tensor
    shape = batch_size, heads, num_heads // heads, length, head_dim
    return tensor[:, :, None].expand(shape).reshape(batch_size, num_heads, length, head_dim)
