"""BERT and RoBERTa in pieces."""

from typing import Any, ClassVar

from torch import Tensor, nn

from cosim.learning.families.body import Body, as_trained
from cosim.learning.shape import ModelShape


class BertBody(Body):
    """Normed embeddings in front; behind, a pooler or dense layer on the first token and a classifier.

    RoBERTa has the same blocks; it counts positions from its padding id on,
    which its embedding does itself, and its pooler is part of the classifier.
    """

    is_causal: ClassVar[bool] = False

    def __init__(self, model: Any, shape: ModelShape) -> None:
        super().__init__(model, shape)
        inner = model.bert if shape.family == "bert" else model.roberta
        self.blocks = inner.encoder.layer
        self._embeddings = inner.embeddings
        self._pooler = inner.pooler
        self._classifier = model.classifier

    def embed(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self._embeddings(input_ids=input_ids)
        return hidden

    def run_block(self, block: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        out: Tensor = block(hidden, mask)
        return out

    def logits(self, hidden: Tensor, last: Tensor | None) -> Tensor:
        if self._pooler is not None:
            hidden = self._pooler(hidden)
        scores: Tensor = self._classifier(as_trained(hidden))
        return scores
