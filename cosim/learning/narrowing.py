"""Tensors and models of which some units are left out: chosen by their weights, sliced, put back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cosim.learning.families.modules import build
from cosim.learning.parameters import PEFT
from cosim.learning.units import UNIT_KINDS, Axis, Kept, axes_of, narrowed

if TYPE_CHECKING:
    from cosim.learning.model import Adapter, SplitModel


def choose(model: "SplitModel", adapter: "Adapter", kept: Kept, slopes: "Adapter | None" = None) -> "Adapter":
    """Return the units of each block that remain, ascending: the most important ones.

    A unit is as important as the absolute values of its weights add up to, over all layers that it is in, the
    adapter included; with slopes, those of each weight times its slope. Of two alike the first remains.

    Parameters
    ----------
    model, adapter
        The whole model, and what is trained.
    kept
        How many remain.
    slopes
        Gradients of a loss by the weights.
    """
    weights = _matrices(model, adapter)
    scores: dict[str, Tensor] = {}
    for name, axis in axes_of(model.shape, weights).items():
        values = weights[name].detach() * slopes[name] if slopes else weights[name].detach()
        found = values.abs().sum(dim=1 - axis.dim)
        each = found.view(axis.repeats, axis.count, axis.size).sum(dim=(0, 2))
        scores[axis.units] = scores[axis.units] + each if axis.units in scores else each
    counts = {
        f"{block}.{kind}": count
        for block, both in enumerate(kept, start=1)
        for kind, count in zip(UNIT_KINDS, both, strict=True)
    }
    order = {name: torch.sort(scores[name], descending=True, stable=True).indices for name in counts}
    return {name: order[name][:count].sort().values for name, count in counts.items()}


def _matrices(model: "SplitModel", adapter: "Adapter") -> "Adapter":
    """Return the weights of linear layers with what is trained, by their names in the model."""
    is_transposed, found = model.shape.names.stores_inputs_first, {}
    for name, weights in model.base_weights().items():
        if weights.dim() == 2:
            found[name] = adapter.get(name, weights)
            layer = f"{PEFT}.{name.removesuffix('.weight')}"
            if (factor := adapter.get(f"{layer}.lora_A.weight")) is not None:
                product = model.trainable.scaling * adapter[f"{layer}.lora_B.weight"] @ factor
                found[name] = weights + (product.T if is_transposed else product)
    return found


def narrow(tensors: "Adapter", axes: Mapping[str, Axis], units: "Adapter") -> "Adapter":
    """Return tensors with the units that remain alone; a name may have something in front of a slash."""
    return {name: _sliced(tensor, axes.get(_of(name)), units) for name, tensor in tensors.items()}


def widen(whole: "Adapter", tensors: "Adapter", axes: Mapping[str, Axis], units: "Adapter") -> "Adapter":
    """Return whole tensors with the units that remained as they are now; others are as they were."""
    found = {}
    for name, before in whole.items():
        axis = axes.get(_of(name))
        if name not in tensors or axis is None or before.dim() == 0:
            found[name] = tensors.get(name, before)
        else:
            found[name] = before.index_copy(axis.dim, _places(axis, units), tensors[name])
    return found


def marks(tensors: "Adapter", axes: Mapping[str, Axis], units: "Adapter") -> "Adapter":
    """Return where tensors have units that remain (1) and where not (0), in shapes that broadcast."""
    found = {}
    for name, tensor in tensors.items():
        axis = axes.get(name)
        if axis is None:
            found[name] = tensor.new_ones(())
            continue
        sizes = [1] * tensor.dim()
        sizes[axis.dim] = tensor.shape[axis.dim]
        flat = tensor.new_zeros(tensor.shape[axis.dim])
        found[name] = flat.index_fill(0, _places(axis, units), 1.0).view(sizes)
    return found


def narrow_model(model: "SplitModel", units: "Adapter") -> "SplitModel":
    """Return a model whose matrices have the units that remain and no others; nothing of them is shared."""
    kept = tuple(
        (len(units[f"{block}.heads"]), len(units[f"{block}.columns"]))
        for block in range(1, model.shape.num_layers + 1)
    )
    shape = narrowed(model.shape, kept)
    if shape is model.shape:
        return model
    weights = model.base_weights()
    sliced = narrow(weights, axes_of(model.shape, weights), units)
    return model.of_pieces(build(model.config, shape, sliced), shape)


def _sliced(tensor: Tensor, axis: Axis | None, units: "Adapter") -> Tensor:
    if axis is None or tensor.dim() == 0:
        return tensor.detach()
    return tensor.detach().index_select(axis.dim, _places(axis, units))


def _places(axis: Axis, units: "Adapter") -> Tensor:
    """Return the places of the units that remain along a dimension, ascending."""
    kept = units[axis.units]
    first = (
        torch.arange(axis.repeats, device=kept.device)[:, None] * axis.count + kept
    ).flatten() * axis.size
    return (first[:, None] + torch.arange(axis.size, device=kept.device)).flatten()


def _of(name: str) -> str:
    """Return the parameter that a tensor is of, as an optimiser's moments are."""
    return name.rpartition("/")[2]
