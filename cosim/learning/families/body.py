"""A model in pieces: what each family says of its own modules."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cosim.learning.shape import ModelShape


class Body(ABC):
    """One model in pieces; the pieces are those of the model, not copies.

    Parameters
    ----------
    model
        The Hugging Face model, adapters already on it.
    shape
        Its shape for the task it is used for.
    """

    is_causal: ClassVar[bool] = True
    blocks: Sequence[nn.Module]

    def __init__(self, model: nn.Module, shape: ModelShape) -> None:
        self.shape = shape

    @abstractmethod
    def embed(self, input_ids: Tensor) -> Tensor:
        """Return what the first block sees, shape (batch_size, sequence_length, hidden_size)."""

    @abstractmethod
    def run_block(self, block: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return what a block makes of ``hidden``; ``mask`` is added to the attention scores."""

    @abstractmethod
    def logits(self, hidden: Tensor, last: Tensor | None) -> Tensor:
        """Return the scores of the head.

        Parameters
        ----------
        hidden
            What the last block gave, shape (batch_size, sequence_length, hidden_size).
        last
            Position of each example's last token, shape (batch_size,); needed
            where a causal model classifies.

        Returns
        -------
        Tensor
            Shape (batch_size, sequence_length, vocab_size) for a causal model,
            (batch_size, num_labels) for a classifier.
        """


class CausalBody(Body):
    """A body whose classifier, if it has one, reads the last token."""

    final_norm: nn.Module
    head: nn.Module

    def logits(self, hidden: Tensor, last: Tensor | None) -> Tensor:
        hidden = self.final_norm(hidden)
        if self.shape.task == "causal_lm":
            return self._scores(hidden)
        scores = self._scores(as_trained(hidden))  # at every position, as transformers has it
        return scores[torch.arange(len(scores), device=scores.device), last]

    def _scores(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.head(hidden)
        return scores


def as_trained(hidden: Tensor) -> Tensor:
    """Return ``hidden`` in the number format of a trained head, which is float32 beside bfloat16."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden
