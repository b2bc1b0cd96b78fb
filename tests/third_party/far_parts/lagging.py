"""Server optimizer: a part of the way to the average."""

from typing import Literal

from pydantic import Field

from cosim.learning.server_optimizer import ServerOptimizer, Tensors


class Lagging(ServerOptimizer):
    """Goes a ``share`` of the way to the average of each round."""

    kind: Literal["far_lagging"] = "far_lagging"
    share: float = Field(default=0.5, gt=0.0, le=1.0)

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return a point between."""
        return {name: before[name] + self.share * (one - before[name]) for name, one in average.items()}, {}
