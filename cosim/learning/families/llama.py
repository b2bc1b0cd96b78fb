"""Llama in pieces."""

from typing import Any

import torch
from torch import Tensor

from cosim.learning.families.body import CausalBody, chosen
from cosim.learning.families.kernels import activation
from cosim.learning.shape import ModelShape


class LlamaBody(CausalBody):
    """Token embeddings in front, rotary positions inside every block, a final norm and a head behind."""

    def __init__(self, model: Any, shape: ModelShape) -> None:
        super().__init__(model, shape)
        self.blocks = model.model.layers
        self.final_norm = model.model.norm
        self.head = model.lm_head if shape.task == "causal_lm" else model.score
        self._tokens = model.model.embed_tokens
        self._rotary = model.model.rotary_emb
        self._activation = activation(model.config.hidden_act)
        self._scale = shape.head_dim**-0.5
        # Cosines and sines depend on the sequence length alone; transformers computes them once per forward.
        self._rotations: dict[int, tuple[Tensor, Tensor]] = {}

    def embed(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self._tokens(input_ids)
        return hidden

    def run_block(
        self, block: Any, hidden: Tensor, mask: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        attention, normed = block.self_attn, block.input_layernorm(hidden)
        cosines, sines = self._rotation(hidden)
        queries, keys = (
            _rotated(self.heads(project(normed)), cosines, sines)
            for project in (attention.q_proj, attention.k_proj)
        )
        values = self.heads(attention.v_proj(normed))
        mixed = self.attended(block, queries, keys, values, mask, self._scale)
        hidden = chosen(hidden, places) + attention.o_proj(chosen(mixed, places))
        normed, mlp = block.post_attention_layernorm(hidden), block.mlp
        out: Tensor = hidden + mlp.down_proj(self._activation(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        return out

    def _rotation(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of all positions, each of shape (1, length, head_dim)."""
        length = hidden.shape[1]
        if length not in self._rotations:
            positions = torch.arange(length, device=hidden.device).unsqueeze(0) + self.first_position
            self._rotations[length] = self._rotary(self._tokens.weight, positions)
        return self._rotations[length]


def _rotated(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return queries or keys with their positions in them."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat((-second, first), dim=-1) * sines
