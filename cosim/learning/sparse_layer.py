"""A frozen linear layer, some of whose weights may change."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SparseLinear(nn.Module):
    """The layer with what is trained added to its weights at some places.

    The gradient of all weights is formed on the way back, and read at the places.

    Parameters
    ----------
    base_layer
        The frozen layer.
    places
        Which of its weights, counted through as they are stored; int64, shape (count,).
    fan_in_fan_out
        Whether they are stored as (inputs, outputs).
    """

    places: Tensor

    def __init__(self, base_layer: Any, places: Tensor, *, fan_in_fan_out: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.fan_in_fan_out = fan_in_fan_out
        weight = base_layer.weight
        # what is trained beside bfloat16 is float32: an optimiser's steps would be rounded away
        dtype = torch.float32 if weight.dtype == torch.bfloat16 else weight.dtype
        self.changes = nn.Parameter(torch.zeros(len(places), dtype=dtype, device=weight.device))
        self.register_buffer("places", places.to(weight.device), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output of the changed layer."""
        weight = self.base_layer.weight
        changed = weight.flatten().to(self.changes.dtype).scatter_add(0, self.places, self.changes)
        changed = changed.view(weight.shape).to(weight.dtype)
        return functional.linear(inputs, changed.T if self.fan_in_fan_out else changed, self.base_layer.bias)


def add_sparse(model: Any, places: dict[str, Tensor], *, fan_in_fan_out: bool) -> None:
    """Let some weights of these layers of a model change, in place."""
    for name, of_layer in places.items():
        owner, _, attribute = name.rpartition(".")
        layer = SparseLinear(model.get_submodule(name), of_layer, fan_in_fan_out=fan_in_fan_out)
        setattr(model.get_submodule(owner), attribute, layer)
