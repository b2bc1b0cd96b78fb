"""Shares dealt out by a partitioner of Flower."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from warnings import catch_warnings, simplefilter

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.data.names import unknown
from cosim.learning.partition import Partition, Rows, groups_by
from cosim.rng import Stream
from cosim.units import Ints


class Flower(Partition):
    """A partitioner of ``flwr-datasets``: Pathological, Shard, InnerDirichlet, Distribution and others.

    It is given the number of clients, the examples' class or field as a column, and a seed of the run
    where it takes one.
    """

    package: ClassVar[str | None] = "flwr_datasets"
    kind: Literal["flower"] = "flower"
    partitioner: str = Field(min_length=1, description="Such as 'pathological', for PathologicalPartitioner.")
    by: str = Field("label", description="What it goes by: 'label', or a field of the examples.")
    settings: dict[str, Any] = Field({}, description="Its other arguments, such as alpha.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"partitioner": "pathological", "settings": {"num_classes_per_partition": 1}},
        {"partitioner": "dirichlet", "settings": {"alpha": 5.0, "min_partition_size": 1}},
        {"partitioner": "iid"},
    )

    def deal(self, examples: Sequence[Example], num_clients: int, stream: Stream) -> Sequence[Rows]:
        """Return the rows that the partitioner gives each client.

        Raises
        ------
        ScenarioError
            If the package is not there, has no such partitioner, or it refuses.
        """
        try:
            from datasets import Dataset
            from flwr_datasets import partitioner as known
        except ImportError as fault:
            raise ScenarioError(
                f"data.partition: needs the package flwr-datasets; run "
                f"'pip install cosim[flower_data]' ({fault})"
            ) from None
        names = {name.removesuffix("Partitioner").lower(): name for name in known.__all__}
        name = names.get(self.partitioner.removesuffix("Partitioner").replace("_", "").lower())
        if name is None:
            raise ScenarioError(f"data.partition: {unknown('partitioner', self.partitioner, names)}")
        made = getattr(known, name)
        taken = made.__init__.__code__.co_varnames[: made.__init__.__code__.co_argcount]
        given = {"num_partitions": num_clients, "partition_by": self.by, "seed": stream.torch_seed() % 2**31}
        column = [""] * len(examples)
        if "partition_by" in taken:
            for value, rows in groups_by(self.by, examples).items():
                for row in rows:
                    column[row] = value
        table = Dataset.from_dict({"row": list(range(len(examples))), self.by: column})
        try:
            with catch_warnings():
                simplefilter("ignore")  # of examples that are left out, which a check counts
                dealer = made(**{key: one for key, one in given.items() if key in taken} | self.settings)
                dealer.dataset = table
                return [list(dealer.load_partition(client)["row"]) for client in range(num_clients)]
        except (ValueError, TypeError, KeyError, IndexError, AssertionError) as fault:
            why = " ".join(str(fault).split())[:300].rstrip(".")
            raise ScenarioError(f"data.partition: {name} cannot deal the examples out: {why}.") from None

    def groups(self, examples: Sequence[Example]) -> Mapping[str, Ints]:
        """Return the rows of each value of ``by``; without such a field all examples are one."""
        try:
            return groups_by(self.by, examples)
        except ScenarioError:
            return super().groups(examples)
