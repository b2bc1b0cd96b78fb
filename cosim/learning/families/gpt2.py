"""GPT-2 in pieces."""

from typing import Any

import torch
from torch import Tensor, nn

from cosim.learning.families.body import CausalBody
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

    def embed(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden: Tensor = self._tokens(input_ids) + self._positions(positions)
        return hidden

    def run_block(self, block: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        out: Tensor = block(hidden, None, mask)
        return out
