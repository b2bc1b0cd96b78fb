"""A pre-trained model as a tree of plain modules, under the names transformers has for them.

Building one takes no transformers, whose model classes load generation,
distributed tensors and a compiler with them: seconds that a run does without.
The kernels of a :class:`~cosim.learning.families.body.Body` call the modules one by one.
"""

from collections.abc import Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cosim.learning.parameters import Parameter, parameters_of
from cosim.learning.shape import ModelShape

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    "llama": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "pad_token_id": None},
    "bert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0},
    "roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 1},
}
"""What a config may leave out, as transformers has it."""

_EPSILON = {"gpt2": "layer_norm_epsilon", "llama": "rms_norm_eps"}


def can_build(config: Mapping[str, Any]) -> bool:
    """Return whether :func:`build` knows the family and, of rotary positions, the kind that a config has."""
    rope = _rope(config)
    is_plain = rope.get("rope_type", rope.get("type", "default")) == "default"
    if config["model_type"] != "llama":
        return config["model_type"] in _DEFAULTS
    return is_plain and "partial_rotary_factor" not in {**rope, **config}


def build(config: Mapping[str, Any], shape: ModelShape, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a model that holds these tensors, in evaluation mode.

    Parameters
    ----------
    config
        The Hugging Face config.
    tensors
        By the names of :func:`~cosim.learning.parameters.parameters_of`; a classifier's, which
        no base has, are not looked at.
    """
    settings = SimpleNamespace(**{"initializer_range": 0.02, **_DEFAULTS[shape.family], **config})
    model, dtype = _Model(settings), next(iter(tensors.values())).dtype
    for one in parameters_of(shape):
        path, _, kind = one.name.rpartition(".")
        values = torch.zeros(one.shape, dtype=dtype) if one.role == "classifier" else tensors[one.name]
        setattr(_leaf(model, path, one, settings, shape), kind, nn.Parameter(values))
    if shape.task == "causal_lm" and shape.has_tied_head:
        model.lm_head = Linear()
        model.lm_head.weight = model.get_parameter(parameters_of(shape)[0].name)
    if shape.family == "llama":
        model.get_submodule(shape.inner_name).rotary_emb = Rotary(_theta(config), shape.head_dim)
    return model.eval()


def _leaf(
    model: nn.Module, path: str, one: Parameter, settings: SimpleNamespace, shape: ModelShape
) -> nn.Module:
    """Return the module that owns a parameter, made with all above it where it is not there."""
    *above, last = path.split(".")
    at = model
    for name, inner in pairwise((*above, last)):
        if name not in at._modules:
            at.add_module(name, nn.ModuleList() if inner.isdigit() else nn.Module())
        at = at.get_submodule(name)
    if last not in at._modules:
        at.add_module(last, _made(one, last, settings, shape))
    return at.get_submodule(last)


def _made(one: Parameter, name: str, settings: SimpleNamespace, shape: ModelShape) -> nn.Module:
    """Return the module of a parameter, which is put in place later.

    Modules of torch draw values when they are made, and on no device of their own load a compiler for it.
    """
    if one.role == "norm":
        epsilon = getattr(settings, _EPSILON.get(shape.family, "layer_norm_eps"))
        if shape.family == "llama":
            return RmsNorm(epsilon)
        return LayerNorm(epsilon)
    if one.role == "embedding":
        pads = name == "word_embeddings" or name == "embed_tokens"
        pads |= name == "position_embeddings" and shape.family == "roberta"
        padding = settings.pad_token_id if pads else None
        return Embedding(padding)
    if one.role in ("attention", "mlp") and shape.family == "gpt2":
        return InputsFirst()
    return Linear()


class _Model(nn.Module):
    """The root of a tree; ``config`` has the values of a Hugging Face config."""

    lm_head: "Linear"

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config


class Embedding(nn.Module):
    """A table of tokens or positions; the row of ``padding_idx`` takes no gradient."""

    weight: Tensor

    def __init__(self, padding_idx: int | None) -> None:
        super().__init__()
        self._padding_idx = padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows."""
        return functional.embedding(ids, self.weight, self._padding_idx)


class Linear(nn.Module):
    """A linear layer, with or without a bias."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias"):  # in this order
            self.register_parameter(name, None)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output."""
        return functional.linear(inputs, self.weight, self.bias)


class LayerNorm(nn.Module):
    """A norm by mean and deviation over the last dimension."""

    weight: Tensor
    bias: Tensor

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is normed."""
        return functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self._epsilon)


class InputsFirst(nn.Module):
    """A linear layer that stores its weights as (inputs, outputs), as GPT-2 has it."""

    weight: Tensor
    bias: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output, in one call."""
        flat = torch.addmm(self.bias, inputs.reshape(-1, inputs.shape[-1]), self.weight)
        return flat.view(*inputs.shape[:-1], flat.shape[-1])


class RmsNorm(nn.Module):
    """A norm by the root of the mean square, in float32 as transformers has it for Llama."""

    weight: Tensor

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is normed, in its own number format."""
        wide = hidden.to(torch.float32)
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return self.weight * normed.to(hidden.dtype)


class Rotary(nn.Module):
    """Cosines and sines of rotary positions, as transformers has them for Llama.

    Source
    ------
    J. Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    """

    def __init__(self, theta: float, head_dim: int) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim))
        self.register_buffer("inv_freq", frequencies, persistent=False)

    def forward(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both for these positions, in the number format of ``like``."""
        angles = positions[..., None].float() * self.get_buffer("inv_freq")
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("rope_scaling") or config.get("rope_parameters") or {}


def _theta(config: Mapping[str, Any]) -> float:
    """Return the base of the rotary frequencies."""
    return float(_rope(config).get("rope_theta", config.get("rope_theta", 10000.0)))
