"""Gradients by all weights of a model's linear layers, whether they are trained or not."""

import torch

from cosim.learning.data.batch import Batch
from cosim.learning.learner import leaves_of, mean_loss
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.units import axes_of


def slopes_of(model: SplitModel, adapter: Adapter, batch: Batch) -> Adapter:
    """Return the gradient of a batch's mean loss by each weight of which units may be left out.

    Beside what is added to a frozen weight, such as factors, it is that by their sum.
    """
    leaves = leaves_of(adapter)
    base = {name: one for name, one in model.base_weights().items() if one.dim() == 2}
    wanted = {name: leaves.get(name, base[name]) for name in axes_of(model.shape, base)}
    frozen = [one for one in wanted.values() if not one.requires_grad]
    for one in frozen:
        one.requires_grad_(True)
    try:
        prefix = None
        if model.num_frozen and not model.trains_embedding:  # it is known without gradients otherwise
            mask = model.attention_mask(batch)
            prefix = model.run_blocks({}, model.embed(batch), mask, 1, model.num_frozen)
        loss = mean_loss(model.whole_outputs(leaves, batch, prefix=prefix))
        return dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))
    finally:
        for one in frozen:
            one.requires_grad_(False)
