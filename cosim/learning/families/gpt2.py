"""GPT-2 in pieces."""

from typing import Any

import torch
from torch import Tensor

from cosim.learning.families.body import CausalBody, chosen
from cosim.learning.families.kernels import activation
from cosim.learning.shape import ModelShape


class GPT2Body(CausalBody):
    """Token and learned position embeddings in front; a final norm and a head, mostly tied, behind."""

    def __init__(self, model: Any, shape: ModelShape) -> None:
        super().__init__(model, shape)
        self.blocks = model.transformer.h
        self.final_norm = model.transformer.ln_f
        self.head = model.lm_head if shape.task == "causal_lm" else model.score
        self._tokens = model.transformer.wte
        self._positions = model.transformer.wpe
        self._activation = activation(model.config.activation_function)
        self._scales = {block: _scale(model.config, shape, index) for index, block in enumerate(self.blocks)}

    def embed(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device) + self.first_position
        hidden: Tensor = self._tokens(input_ids) + self._positions(positions)
        return hidden

    def run_block(
        self, block: Any, hidden: Tensor, mask: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        queries, keys, values = block.attn.c_attn(block.ln_1(hidden)).chunk(3, dim=-1)
        mixed = self.mixed(block, queries, keys, values, mask, self._scales[block])
        hidden = chosen(hidden, places) + block.attn.c_proj(chosen(mixed, places))
        inner = self._activation(block.mlp.c_fc(block.ln_2(hidden)))
        out: Tensor = hidden + block.mlp.c_proj(inner)
        return out


def _scale(config: Any, shape: ModelShape, index: int) -> float:
    """Return what the attention scores of a block, counted from 0, are multiplied by."""
    scale: float = shape.head_dim**-0.5 if config.scale_attn_weights else 1.0
    return scale / (index + 1) if config.scale_attn_by_inverse_layer_idx else scale
