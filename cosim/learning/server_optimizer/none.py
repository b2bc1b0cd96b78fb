"""The average as it is."""

from typing import Literal

from cosim.learning.server_optimizer import ServerOptimizer, Tensors


class Average(ServerOptimizer):
    """Takes the average of a round for the next global adapter."""

    kind: Literal["none"] = "none"

    @property
    def is_none(self) -> bool:
        """Always."""
        return True

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the average."""
        return average, {}


AVERAGE = Average.default()
"""What is done where nothing else is said."""
