"""Every client the same mixture."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cosim.learning.data import Example
from cosim.learning.partition import Partition, Rows
from cosim.rng import Stream


class Iid(Partition):
    """Shuffled examples in equal shares: sizes differ by one at most, every example is used."""

    kind: Literal["iid"] = "iid"

    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return equal pieces of a permutation."""
        return np.array_split(stream.generator().permutation(len(examples)), num_clients)
