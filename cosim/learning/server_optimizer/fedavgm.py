"""Momentum at the server."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.server_optimizer import ServerOptimizer, Tensors


class FedAvgM(ServerOptimizer):
    """Keeps a share of the last direction: ``v = momentum v + delta``, and a step of ``learning_rate v``.

    ``delta`` is what the average is away from where the round began. With a momentum of 0 and a rate
    of 1 the average itself is taken.

    Source
    ------
    T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the effects of non-identical data distribution
    for federated visual classification", arXiv 1909.06335, section 3; the rate as in Reddi et al., below.
    """

    kind: Literal["fedavgm"] = "fedavgm"
    learning_rate: float = Field(default=1.0, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"momentum": 0.0})

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the step along the momentum."""
        moved = {name: one - before[name] for name, one in average.items()}
        moved |= {name: self.momentum * state[name] + one for name, one in moved.items() if name in state}
        return {name: before[name] + self.learning_rate * one for name, one in moved.items()}, state | moved
