"""Unequal amounts: the same mixture everywhere, but some clients have more of it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.partition import Partition, Rows, rounded
from cosim.rng import Stream
from cosim.units import Floats


class Size(Partition):
    """Shuffled examples in shares of given or drawn size.

    ``log_normal`` draws each client's weight as exp(spread x normal); ``zipf``
    weighs client k, counting from 0, by 1 / (k + 1)^spread, so that client-0 has
    most. Drawn shares use every example; given ``fractions`` may leave some out.
    """

    kind: Literal["size"] = "size"
    fractions: tuple[float, ...] | None = Field(
        None, min_length=1, description="Share of the examples of each client, client-0 first."
    )
    skew: Literal["log_normal", "zipf"] = Field(
        "log_normal", description="How sizes differ without fractions."
    )
    spread: float = Field(
        1.0, ge=0.0, le=10.0, description="Deviation of the log, or Zipf exponent; 0 is equal."
    )
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"spread": 0.5},
        {"skew": "zipf"},
        {"fractions": (0.4, 0.3, 0.1, 0.05)},
    )

    @model_validator(mode="after")
    def _fractions_fit(self) -> Self:
        if self.fractions is not None:
            if min(self.fractions) <= 0.0:
                raise ValueError(f"fractions must be positive, got {min(self.fractions)}")
            if sum(self.fractions) > 1.0 + 1e-9:
                raise ValueError(f"fractions must add up to 1 at most, got {sum(self.fractions)}")
        return self

    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return pieces of a permutation, one of each client's size."""
        shares = self._shares(num_clients, stream.child("sizes"))
        # What given fractions leave over goes to nobody: one more share, dropped at the end.
        left_over = max(0.0, 1.0 - float(shares.sum()))
        counts = rounded(np.append(shares, left_over), len(examples), offset=0.5)
        order = stream.child("rows").generator().permutation(len(examples))
        return np.split(order, np.cumsum(counts)[:-1])[:num_clients]

    def _shares(self, num_clients: int, stream: Stream) -> Floats:
        if self.fractions is not None:
            if len(self.fractions) != num_clients:
                raise ScenarioError(
                    f"partition size: {len(self.fractions)} fractions are given for {num_clients} client(s); "
                    "give one for each client"
                )
            return np.asarray(self.fractions, dtype=np.float64)
        if self.skew == "zipf":
            weights = np.arange(1, num_clients + 1, dtype=np.float64) ** -self.spread
        else:
            weights = np.exp(self.spread * stream.generator().standard_normal(num_clients))
        return np.asarray(weights / weights.sum())

    @property
    def way_out(self) -> str:
        """What to do when a client is left with too little."""
        return "even out fractions, take a smaller spread, fewer clients or more examples"
