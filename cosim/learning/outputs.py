"""What a forward pass gave, what should have won, and what it costs that it did not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, bfloat16
from torch.nn import functional

from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.shape import ModelTask


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gave; losses and counts are per example, shape (batch_size,).

    Attributes
    ----------
    loss_sum
        Cross-entropy summed over the targets of each example, with its graph, nats.
    num_targets
        Targets of each example, int64: next tokens that carry a loss, or 1 for a label.
    logits, targets
        Scores and what should have won, ``IGNORED`` where nothing should: shapes
        (batch_size, sequence_length, vocab_size) and (batch_size, sequence_length)
        for a causal model, (batch_size, num_labels) and (batch_size,) for a classifier.
    """

    loss_sum: Tensor
    num_targets: Tensor
    logits: Tensor
    targets: Tensor

    @property
    def num_correct(self) -> Tensor:
        """How many targets had the highest score, int64; worked out when asked for, as it takes time."""
        hits = self.logits.detach().argmax(dim=-1) == self.targets
        return hits.sum(dim=1) if hits.dim() == 2 else hits.long()


def targets_of(batch: Batch, task: ModelTask) -> NDArray[np.int64]:
    """Return what should win: :attr:`Outputs.targets`."""
    if task == "classification":
        return batch.labels
    shifted = np.full_like(batch.labels, IGNORED)
    shifted[:, :-1] = batch.labels[:, 1:]
    return shifted


def last_positions_of(batch: Batch) -> NDArray[np.int64]:
    """Return where each example ends, shape (batch_size,)."""
    from_behind = batch.attention_mask[:, ::-1].argmax(axis=1)
    return np.asarray(batch.attention_mask.shape[1] - 1 - from_behind, dtype=np.int64)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets of each example, shape (batch_size,), nats.

    bfloat16 is widened, float64 stays; transformers would narrow it.
    """
    if logits.dtype == bfloat16:
        logits = logits.float()
    each = functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return each.view(targets.shape).sum(dim=1) if targets.dim() == 2 else each
