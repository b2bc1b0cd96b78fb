"""A mini-batch as plain numpy arrays, so that cutting one needs no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""Label of a position that carries no loss, as torch and transformers have it."""


@dataclass(frozen=True)
class Batch:
    """Tokenised examples, padded on the right to one length.

    Attributes
    ----------
    input_ids
        int64, shape (batch_size, sequence_length).
    attention_mask
        bool, same shape; False on padding.
    labels
        int64; for a causal model of the same shape, *not* shifted, ``IGNORED``
        where a token carries no loss; for a classifier of shape (batch_size,).
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @property
    def num_targets(self) -> NDArray[np.int64]:
        """How many losses each example carries, shape (batch_size,); a shifted-away first label is none."""
        if self.labels.ndim == 1:
            return np.ones(len(self.labels), dtype=np.int64)
        return np.asarray((self.labels[:, 1:] != IGNORED).sum(axis=1))

    def trimmed(self) -> "Batch":
        """Return the same examples without what is padding in all of them."""
        length = max(1, int(self.attention_mask.sum(axis=1).max(initial=1)))
        if length == self.input_ids.shape[1]:
            return self
        labels = self.labels if self.labels.ndim == 1 else self.labels[:, :length]
        return Batch(self.input_ids[:, :length], self.attention_mask[:, :length], labels)
