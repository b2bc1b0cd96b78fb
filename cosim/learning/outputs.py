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

    Only positions with a target are scored: next tokens that carry a loss, or one position of
    each example for a label.

    Attributes
    ----------
    loss_sum
        Cross-entropy summed over the targets of each example, with its graph, nats.
    num_targets
        Targets of each example, int64.
    logits, targets
        Scores and what should have won, shapes (num_targets, vocab_size or num_labels) and
        (num_targets,), example by example.
    examples
        Whose target it is, shape (num_targets,).
    """

    loss_sum: Tensor
    num_targets: Tensor
    logits: Tensor
    targets: Tensor
    examples: Tensor

    @property
    def num_correct(self) -> Tensor:
        """How many targets had the highest score, int64; worked out when asked for, as it takes time."""
        hits = (self.logits.detach().argmax(dim=-1) == self.targets).long()
        return self.num_targets.new_zeros(len(self.num_targets)).index_add(0, self.examples, hits)


@dataclass(frozen=True)
class Scored:
    """The positions of a batch that have a target, example by example; each of shape (num_targets,).

    Attributes
    ----------
    places
        Where they are, counted through all examples.
    targets
        What should win there.
    examples
        Whose they are.
    """

    places: NDArray[np.int64]
    targets: NDArray[np.int64]
    examples: NDArray[np.int64]


def scored_of(batch: Batch, task: ModelTask, *, is_causal: bool, every: bool = False) -> Scored:
    """Return the positions with a target: a classifier reads one of each example.

    A causal one reads the last that is no padding, another one the first.

    Parameters
    ----------
    every
        Return all positions of a causal model, ``IGNORED`` where nothing should win.
    """
    size, length = batch.input_ids.shape[:2]
    if task == "classification":
        at = last_positions_of(batch) if is_causal else np.zeros(size, dtype=np.int64)
        examples = np.arange(size, dtype=np.int64)
        return Scored(examples * length + at, batch.labels, examples)
    targets = np.full_like(batch.labels, IGNORED)
    targets[:, :-1] = batch.labels[:, 1:]
    examples, at = np.nonzero((targets != IGNORED) | every)
    return Scored(examples * length + at, targets[examples, at], examples)


def last_positions_of(batch: Batch) -> NDArray[np.int64]:
    """Return where each example ends, shape (batch_size,)."""
    from_behind = batch.attention_mask[:, ::-1].argmax(axis=1)
    return np.asarray(batch.attention_mask.shape[1] - 1 - from_behind, dtype=np.int64)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each target, nats; 0 where it is ``IGNORED``.

    bfloat16 is widened, float64 stays; transformers would narrow it.
    """
    if logits.dtype == bfloat16:
        logits = logits.float()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
