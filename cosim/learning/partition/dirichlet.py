"""Skewed classes: each client its own mixture, drawn from a Dirichlet distribution."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.data import Example
from cosim.learning.partition import Partition, Rows, groups_by, rounded
from cosim.rng import Stream
from cosim.units import Ints

_NUM_TRIES = 200


class Dirichlet(Partition):
    """Each class is shared out by proportions drawn from Dir(alpha, ..., alpha).

    Small ``alpha`` gives a class to few clients, large ``alpha`` approaches
    equal mixtures. Every example is used. As in the source the draw is made
    again while a client has fewer than ``min_examples``, up to 200 times.

    Source
    ------
    Q. Li, Y. Diao, Q. Chen, B. He, "Federated learning on non-IID data silos",
    ICDE 2022, sec. 4.1 (distribution-based label skew). Departure: counts are
    rounded systematically instead of down, which would favour the last client
    where classes are small.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(0.5, gt=0.0, le=1e6, description="Concentration; smaller is more skewed.")
    min_examples: int = Field(1, ge=1, description="Fewest examples a client may have; else another draw.")
    by: str = Field("label", description="What is skewed: 'label', or a field of the examples.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"alpha": 5.0, "by": "speaker", "min_examples": 2})

    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return rows by class proportions; the last draw if every draw leaves a client short."""
        groups = list(groups_by(self.by, examples).values())
        for attempt in range(_NUM_TRIES):
            counts = self._counts(groups, num_clients, stream.child("counts", attempt))
            if counts.sum(axis=0).min() >= self.min_examples:
                break
        rng = stream.child("rows").generator()
        shares: list[list[Ints]] = [[] for _ in range(num_clients)]
        for rows, of_class in zip(groups, counts, strict=True):
            pieces = np.split(rng.permutation(rows), np.cumsum(of_class)[:-1])
            for share, piece in zip(shares, pieces, strict=True):
                share.append(piece)
        return [np.concatenate(share) for share in shares]

    def _counts(self, groups: Sequence[Ints], num_clients: int, stream: Stream) -> Ints:
        """Return how many of each class each client gets, shape (num_classes, num_clients)."""
        rng = stream.generator()
        shares = rng.dirichlet(np.full(num_clients, self.alpha), size=len(groups))
        offsets = rng.random(len(groups))
        return np.stack([rounded(*one) for one in zip(shares, map(len, groups), offsets, strict=True)])

    def groups(self, examples: Sequence[Example]) -> Mapping[str, Ints]:
        """Return the rows of each value of ``by``."""
        return groups_by(self.by, examples)

    def num_groups(self, examples: Sequence[Example]) -> int:
        """Return how many values ``by`` takes."""
        return len(self.groups(examples))

    @property
    def way_out(self) -> str:
        """What to do when a client is left with too little."""
        return "take a larger alpha, fewer clients or more examples"
