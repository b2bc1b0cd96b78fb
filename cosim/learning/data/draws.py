"""Which rows make a batch: shuffled epochs without end, or independent draws; any step can be asked for."""

from typing import Literal

import numpy as np

from cosim.rng import Stream
from cosim.units import Ints

Draws = Literal["epochs", "independent"]


class BatchDraws:
    """The batches one client draws from its share, over the whole run.

    Epochs follow each other without a gap: epoch e is a permutation of the
    share drawn from the stream's child ("epoch", e), and step s takes the next
    ``batch_size`` rows after step s - 1. A batch may therefore straddle two
    epochs, and holds a row more than once only where it is larger than the share
    or straddles. Independent batches are sets of ``batch_size`` rows, each as
    likely as any other, whatever was drawn before.

    Parameters
    ----------
    num_rows
        Rows in the client's share, at least 1.
    batch_size
        Rows in a batch, at least 1; may be more than ``num_rows``.
    stream
        The client's own source of chance.
    how
        Which of the two.

    Raises
    ------
    ValueError
        If a share or a batch would be empty.

    Examples
    --------
    >>> from cosim.rng import stream
    >>> draws = BatchDraws(num_rows=6, batch_size=2, stream=stream(1, "batches", 0))
    >>> sorted(np.concatenate([draws.rows(step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, num_rows: int, batch_size: int, stream: Stream, how: Draws = "epochs") -> None:
        if num_rows < 1 or batch_size < 1:
            raise ValueError(f"a share of {num_rows} rows gives no batch of {batch_size}; both must be >= 1")
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.stream = stream
        self.how = how
        self._last: tuple[int, Ints] = (0, self._permutation(0))

    def rows(self, step: int) -> Ints:
        """Return the rows of one batch, 0 to ``num_rows - 1``, shape (batch_size,).

        ``step`` counts from 0 over the whole run; steps may be asked for in
        any order.
        """
        if step < 0:
            raise ValueError(f"steps count from 0, got {step}")
        if self.how == "independent":
            drawn = self.stream.child("step", step).generator()
            return drawn.choice(self.num_rows, self.batch_size, replace=False)
        epoch, start = divmod(step * self.batch_size, self.num_rows)
        rows = self._epoch(epoch)[start : start + self.batch_size].copy()
        while missing := self.batch_size - len(rows):
            epoch += 1
            rows = np.concatenate([rows, self._epoch(epoch)[:missing]])
        return rows

    def _epoch(self, epoch: int) -> Ints:
        """Return an epoch's order; steps mostly follow each other, so the last one is kept."""
        if self._last[0] != epoch:
            self._last = (epoch, self._permutation(epoch))
        return self._last[1]

    def _permutation(self, epoch: int) -> Ints:
        return self.stream.child("epoch", epoch).generator().permutation(self.num_rows)
