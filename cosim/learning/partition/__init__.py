"""Who holds what: the training examples dealt out to clients.

A :class:`Partition` turns a list of examples into one share of row numbers per
client. No row is in two shares; some partitions leave rows out.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.data.names import unknown
from cosim.parts import OfPlane, Part
from cosim.rng import Stream
from cosim.units import Ints

Rows = Sequence[int] | Ints


class Partition(Part):
    """How training examples are dealt out to clients.

    Attributes
    ----------
    package
        Package that it needs and that cosim does not bring.
    """

    package: ClassVar[str | None] = None
    if TYPE_CHECKING:
        kind: str
    min_examples: Annotated[int, OfPlane("time")] = Field(
        1, ge=1, description="Fewest examples a client may be left with."
    )

    def split(
        self, examples: Sequence[Example], num_clients: int, stream: Stream
    ) -> tuple[tuple[int, ...], ...]:
        """Return the rows of each client, ascending, every row at most once.

        Parameters
        ----------
        examples
            The training examples; row r is ``examples[r]``.
        num_clients
            Clients, at least 1.
        stream
            Decides the shares where chance has a part in them.

        Raises
        ------
        ScenarioError
            If a client is left with fewer than ``min_examples``, or the
            settings do not fit the examples.
        """
        if num_clients < 1:
            raise ValueError(f"num_clients must be at least 1, got {num_clients}")
        if len(examples) < num_clients * self.min_examples:
            raise ScenarioError(
                f"partition {self.kind}: {num_clients} client(s) need {num_clients * self.min_examples} "
                f"training examples and there are {len(examples)}; take fewer clients or more examples"
            )
        shares = tuple(
            tuple(sorted(int(row) for row in rows)) for rows in self.deal(examples, num_clients, stream)
        )
        for client, rows in enumerate(shares):
            if len(rows) < self.min_examples:
                raise ScenarioError(self._too_few(client, len(rows), examples, num_clients))
        return shares

    def split_held_out(
        self,
        examples: Sequence[Example],
        shares: Sequence[Sequence[int]],
        held_out: Sequence[Example],
        stream: Stream,
    ) -> tuple[tuple[int, ...], ...]:
        """Return the held-out rows of each client, ascending: as many of each group as it trains on.

        A group's held-out examples are dealt at random, in proportion to the training
        examples of the group that clients have; a group nobody trains on is left out.
        Where the partition has no groups all examples are one.

        Parameters
        ----------
        examples, shares
            The training examples, and each client's rows of them.
        held_out
            The held-out examples; row r is ``held_out[r]``.
        stream
            Decides which rows, and how counts are rounded.
        """
        trained, rng = self.groups(examples), stream.generator()
        dealt: list[list[int]] = [[] for _ in shares]
        for name, rows in self.groups(held_out).items():
            of_group = np.zeros(len(examples), dtype=bool)
            of_group[trained.get(name, np.empty(0, dtype=np.int64))] = True
            counts = np.array([int(of_group[np.asarray(share)].sum()) for share in shares])
            offset, order = rng.random(), rng.permutation(rows)
            if counts.sum() == 0:
                continue
            ends = np.cumsum(rounded(counts / counts.sum(), len(rows), offset))
            for client, piece in enumerate(np.split(order, ends[:-1])):
                dealt[client].extend(piece.tolist())
        return tuple(tuple(sorted(rows)) for rows in dealt)

    def groups(self, examples: Sequence[Example]) -> Mapping[str, Ints]:
        """Return the rows of each group the partition goes by; without grouping all are one."""
        return {"": np.arange(len(examples))}

    @abstractmethod
    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return the rows of each client in any order; ``split`` checks and sorts them."""

    def _too_few(self, client: int, found: int, examples: Sequence[Example], num_clients: int) -> str:
        return (
            f"partition {self.kind}: client-{client} is left with {found} of {len(examples)} examples "
            f"in {self.num_groups(examples)} group(s) and needs {self.min_examples}; {self.way_out}"
        )

    def num_groups(self, examples: Sequence[Example]) -> int:
        """Return how many groups the partition deals from; without grouping each example is its own."""
        return len(examples)

    @property
    def way_out(self) -> str:
        """What to do when a client is left with too little."""
        return "take fewer clients or more examples"


def groups_by(name: str, examples: Sequence[Example], place: str = "partition") -> dict[str, Ints]:
    """Return the rows of each value of a field, ``label`` for the class, in order of the value.

    Raises
    ------
    ScenarioError
        If an example has no such field.
    """
    groups: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        value = example.label if name == "label" else None
        value = example.fields.get(name) if value is None else value
        if value is None:
            known = set(example.fields) | ({"label"} if example.label is not None else set())
            raise ScenarioError(f"{place}: training example {row} has {unknown('field', name, known)}")
        groups.setdefault(value, []).append(row)
    return {value: np.asarray(groups[value], dtype=np.int64) for value in sorted(groups)}


def rounded(shares: Sequence[float] | np.ndarray, total: int, offset: float) -> Ints:
    """Return whole counts that add up to ``total`` and are each within one of share times total.

    Systematic rounding: with ``offset`` uniform on [0, 1) the expectation of
    every count is exactly its share, so no client is favoured by its number.

    Parameters
    ----------
    shares
        Not negative, adding up to 1, shape (num_clients,).
    total
        What is shared out.
    offset
        From 0 up to, and not including, 1.

    Examples
    --------
    >>> rounded([0.5, 0.25, 0.25], 10, offset=0.5)
    array([5, 3, 2])
    """
    edges = np.floor(np.cumsum(np.asarray(shares, dtype=np.float64)) * total + offset).astype(np.int64)
    edges[-1] = total
    return np.diff(np.minimum(edges, total), prepend=0)
