"""Whole groups: what one speaker says, or all that is said of one meaning, stays with one client."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heapreplace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.data import Example
from cosim.learning.partition import Partition, Rows, groups_by
from cosim.rng import Stream
from cosim.units import Ints


class Group(Partition):
    """Examples equal in a field go to one client together.

    Groups are dealt from the largest down, each to the client that has the
    fewest examples so far, so shares are balanced as far as whole groups
    allow; groups of equal size are dealt in random order. Every example is
    used. With ``one_group_per_client`` the clients are the largest groups
    themselves, largest first, and the rest is left out: the natural partition of
    texts that have authors.

    Source
    ------
    R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl.
    Math. 17, 1969 (largest first). S. Caldas et al., "LEAF: a benchmark for
    federated settings", arXiv:1812.01097 (the natural partition).
    """

    kind: Literal["group"] = "group"
    by: str = Field(description="Field whose values are the groups, such as 'client' or 'mr'.")
    one_group_per_client: bool = Field(False, description="Each client is one group, the largest ones taken.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"by": "speaker"},
        {"by": "speaker", "one_group_per_client": True},
    )

    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return whole groups; a client gets none where there are more clients than groups."""
        groups = groups_by(self.by, examples)
        if self.one_group_per_client:
            largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:num_clients]
            return [groups[name] for name in largest] + [()] * (num_clients - len(largest))
        names = list(groups)
        order = [names[index] for index in stream.generator().permutation(len(names))]
        order.sort(key=lambda name: -len(groups[name]))
        shares: list[list[int]] = [[] for _ in range(num_clients)]
        smallest = [(0, client) for client in range(num_clients)]
        heapify(smallest)
        for name in order:
            size, client = smallest[0]
            shares[client].extend(groups[name].tolist())
            heapreplace(smallest, (size + len(groups[name]), client))
        return [np.asarray(share, dtype=np.int64) for share in shares]

    def groups(self, examples: Sequence[Example]) -> Mapping[str, Ints]:
        """Return the rows of each value of ``by``."""
        return groups_by(self.by, examples)

    def num_groups(self, examples: Sequence[Example]) -> int:
        """Return how many values ``by`` takes."""
        return len(self.groups(examples))

    @property
    def way_out(self) -> str:
        """What to do when a client is left with too little."""
        return f"take fewer clients, or examples with more values of {self.by!r}"
