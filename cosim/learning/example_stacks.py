"""Gradients of all examples of a mini-batch by one pass: a copy of what is trained for each example.

Copies are views, stacked in front, and ``torch.func.vmap`` runs the model over examples and copies together,
so what a backward pass leaves at a copy is the gradient of its example alone.

Source
------
"Per-sample-gradients", tutorial of ``torch.func``; here the stack is the leaf, as in ``stacks``.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.func import vmap

from cosim.learning.data.batch import Batch
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.learner import leaves_of
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import losses_of

_MOST_NUMBERS = 1 << 27
"""Of the gradients of a mini-batch that may be in memory at once, half a gigabyte of float32."""


def can_stack(params: Mapping[str, Any], adapter: Adapter) -> bool:
    """Return whether one pass is possible: no dropout, which each example draws by itself, and memory."""
    numbers = sum(tensor.numel() for tensor in adapter.values()) * len(params["batch"]["rows"])
    return params["dropout"] is None and numbers <= _MOST_NUMBERS


def stacked_leaves(adapter: Adapter, count: int, frozen: str | None = None) -> Adapter:
    """Return leaves of shape (count, ...), a copy for each example, by view."""
    return leaves_of({name: one.expand(count, *one.shape) for name, one in adapter.items()}, frozen)


def run_blocks(
    model: SplitModel,
    leaves: Adapter,
    hidden: Tensor,
    batch: Batch,
    first_block: int,
    last_block: int,
    residual: Adapter | None = None,
) -> Tensor:
    """Return what some blocks make of a mini-batch; as ``SplitModel.run_blocks``, with stacked leaves."""
    mask = model.attention_mask(batch)
    is_shared = mask is None or len(mask) == 1

    def of_example(own: Adapter, one: Tensor, its_mask: Tensor | None) -> Tensor:
        its_mask = its_mask if is_shared or its_mask is None else its_mask[None]
        return model.run_blocks(own, one[None], its_mask, first_block, last_block, None, residual)[0]

    before = model.attend_by(attend_stepwise)
    try:
        found: Tensor = vmap(of_example, in_dims=(0, 0, None if is_shared else 0))(leaves, hidden, mask)
    finally:
        model.attend_by(before)
    return found


def mean_losses(model: SplitModel, leaves: Adapter, hidden: Tensor, batch: Batch) -> Tensor:
    """Return the mean loss of each example behind the last block, shape (batch_size,); 0 without targets."""
    size, width = len(hidden), model.shape.hidden_size
    scored = model.scored(batch, every=model.trains_head)
    rows = hidden.flatten(0, 1).index_select(0, model.tensor(scored.places))  # (num_scored, hidden_size)
    if model.trains_head:  # as many rows for each example, each with its own head
        logits = vmap(model.logits)(leaves, rows.view(size, -1, width)).flatten(0, 1)
    else:
        logits = model.logits({}, rows)
    losses = losses_of(logits, model.tensor(scored.targets))
    sums = losses.new_zeros(size).index_add(0, model.tensor(scored.examples), losses)
    return sums / model.tensor(batch.num_targets).clamp(min=1)
