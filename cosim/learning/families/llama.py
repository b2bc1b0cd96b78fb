"""Llama in pieces."""

from typing import Any

import torch
from torch import Tensor, nn

from cosim.learning.families.body import CausalBody
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
        # Cosines and sines depend on the sequence length alone; transformers computes them once per forward.
        self._rotations: dict[int, tuple[Tensor, Tensor]] = {}

    def embed(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self._tokens(input_ids)
        return hidden

    def run_block(self, block: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        rotation = self._rotations.get(hidden.shape[1])
        if rotation is None:
            positions = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
            rotation = self._rotary(self._tokens.weight, positions)
            self._rotations[hidden.shape[1]] = rotation
        out: Tensor = block(hidden, attention_mask=mask, position_embeddings=rotation)
        return out
