"""BERT and RoBERTa in pieces."""

from typing import Any

import torch
from torch import Tensor

from cosim.learning.families.body import Body, as_trained, chosen
from cosim.learning.families.kernels import activation
from cosim.learning.shape import ModelShape


class BertBody(Body):
    """Normed embeddings in front; behind, a pooler or dense layer on the first token and a classifier.

    RoBERTa has the same blocks; it counts positions from its padding id on, and leaves padding
    there, and its pooler is part of the classifier.
    """

    is_causal = False

    def __init__(self, model: Any, shape: ModelShape) -> None:
        super().__init__(model, shape)
        inner = model.bert if shape.family == "bert" else model.roberta
        self.blocks = inner.encoder.layer
        self._embeddings = inner.embeddings
        self._pooler = getattr(inner, "pooler", None)
        self._classifier = model.classifier
        self._activation = activation(model.config.hidden_act)
        self._padding = model.config.pad_token_id if shape.family == "roberta" else None
        self._scale = shape.head_dim**-0.5

    def embed(self, input_ids: Tensor) -> Tensor:
        tables = self._embeddings
        kinds = tables.token_type_embeddings(torch.zeros_like(input_ids))
        hidden = tables.word_embeddings(input_ids) + kinds
        out: Tensor = tables.LayerNorm(hidden + tables.position_embeddings(self._positions(input_ids)))
        return out

    def _positions(self, input_ids: Tensor) -> Tensor:
        if self._padding is None:
            return torch.arange(input_ids.shape[1], device=input_ids.device) + self.first_position
        is_token = input_ids.ne(self._padding).long()
        positions: Tensor = (is_token.cumsum(dim=1) + self.first_position) * is_token + self._padding
        return positions

    def run_block(
        self, block: Any, hidden: Tensor, mask: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        project, attended = block.attention.self, block.attention.output
        queries, keys, values = project.query(hidden), project.key(hidden), project.value(hidden)
        mixed = self.mixed(block, queries, keys, values, mask, self._scale)
        hidden = attended.LayerNorm(attended.dense(chosen(mixed, places)) + chosen(hidden, places))
        inner = self._activation(block.intermediate.dense(hidden))
        out: Tensor = block.output.LayerNorm(block.output.dense(inner) + hidden)
        return out

    def scores(self, rows: Tensor) -> Tensor:
        if self._pooler is not None:
            return self._last(self._classifier, torch.tanh(self._pooler.dense(rows)))
        dense, last = self._classifier.dense, self._classifier.out_proj
        return self._last(last, torch.tanh(dense(as_trained(rows))))

    @staticmethod
    def _last(layer: Any, pooled: Tensor) -> Tensor:
        scores: Tensor = layer(as_trained(pooled))
        return scores
