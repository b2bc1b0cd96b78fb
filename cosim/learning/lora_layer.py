"""A frozen linear layer with a low-rank one beside it, under the names PEFT has for them."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """What PEFT's layer computes, in two products beside the frozen one and without a sum of its own.

    The second product is added to the output of the frozen layer where it is
    made, scaled on the way; PEFT takes two more passes over that output.

    Parameters
    ----------
    base_layer
        The frozen layer.
    rank, scaling, dropout
        As the settings have them.
    fan_in_fan_out
        Whether the frozen weights are stored as (inputs, outputs).
    has_magnitudes
        Whether the norm of each output's weights is trained apart from their direction, as in DoRA.
    """

    def __init__(
        self,
        base_layer: Any,
        rank: int,
        scaling: float,
        dropout: float,
        *,
        fan_in_fan_out: bool,
        has_magnitudes: bool = False,
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.fan_in_fan_out = fan_in_fan_out
        d_out, d_in = base_layer.weight.shape[:: -1 if fan_in_fan_out else 1]
        # what is trained beside bfloat16 is float32: an optimiser's steps would be rounded away
        narrow = base_layer.weight.dtype == torch.bfloat16
        place: dict[str, Any] = {
            "dtype": torch.float32 if narrow else base_layer.weight.dtype,
            "device": base_layer.weight.device,
        }
        self.lora_A = _Factor(torch.zeros(rank, d_in, **place))
        self.lora_B = _Factor(torch.zeros(d_out, rank, **place))
        self.lora_dropout = nn.Dropout(dropout)
        self._scaling = scaling
        self.lora_magnitude_vector = nn.Parameter(self._norms()) if has_magnitudes else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output of both layers."""
        factor = self.lora_A.weight
        if (magnitudes := self.lora_magnitude_vector) is not None:
            return self._rescaled(inputs, magnitudes)
        out: Tensor = self.base_layer(inputs)
        seen = self.lora_dropout(inputs.to(factor.dtype)).flatten(0, -2)
        low = seen @ factor.T
        flat = out.flatten(0, -2)
        if flat.dtype != factor.dtype:
            added = torch.addmm(flat.to(factor.dtype), low, self.lora_B.weight.T, alpha=self._scaling)
            return added.to(out.dtype).view(out.shape)
        return torch.addmm(flat, low, self.lora_B.weight.T, alpha=self._scaling).view(out.shape)

    def _rescaled(self, inputs: Tensor, magnitudes: Tensor) -> Tensor:
        """Return the output of both layers, each number of it scaled to its magnitude."""
        bias, factor = self.base_layer.bias, self.lora_A.weight
        low = self.lora_dropout(inputs.to(factor.dtype)).flatten(0, -2) @ factor.T
        frozen = inputs.flatten(0, -2) @ self._frozen.T
        both = torch.addmm(frozen.to(factor.dtype), low, self.lora_B.weight.T, alpha=self._scaling)
        out = both * (magnitudes / self._norms())
        out = out if bias is None else out + bias
        return out.to(frozen.dtype).view(*inputs.shape[:-1], -1)

    @property
    def _frozen(self) -> Tensor:
        """The frozen weights, shape (outputs, inputs)."""
        weights: Tensor = self.base_layer.weight
        return weights.T if self.fan_in_fan_out else weights

    def _norms(self) -> Tensor:
        """Return the norm of each output's weights, shape (outputs,); no gradient flows through it."""
        product = self.lora_B.weight.detach() @ self.lora_A.weight.detach()
        both = torch.add(self._frozen, product, alpha=self._scaling)
        norms: Tensor = torch.linalg.vector_norm(both, dim=1)
        return norms


class _Factor(nn.Module):
    """Holds one factor, which PEFT calls the weight of a layer."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)


class Wrapped(nn.Module):
    """A model under the names that PEFT gives its parameters.

    Attributes
    ----------
    config
        The model's.
    peft_settings
        What PEFT has to know to read the adapter's file.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base_model = nn.ModuleDict({"model": model})
        self.config = model.config
        self.peft_settings: dict[str, Any] = {}


def add_lora(model: Any, layers: Collection[str], trained: Collection[str], **settings: Any) -> Wrapped:
    """Put adapters beside layers of a model in place, and let nothing else be trained but what is named.

    Parameters
    ----------
    layers, trained
        Names of modules that get an adapter, and of parameters that are trained beside them.
    settings
        Of each :class:`LoraLinear`.
    """
    for name, weights in model.named_parameters():
        weights.requires_grad_(name in trained)
    for name in layers:
        owner, _, attribute = name.rpartition(".")
        layer = LoraLinear(model.get_submodule(name), **settings)
        setattr(model.get_submodule(owner), attribute, layer)
    return Wrapped(model)
