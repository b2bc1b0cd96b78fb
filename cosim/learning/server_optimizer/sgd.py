"""Gradient descent at the server, with a rate that may fall."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.server_optimizer import Tensors
from cosim.learning.server_optimizer.decaying import Decaying


class ServerSgd(Decaying):
    """A step of ``rate v`` along ``v = momentum v + delta``, where ``delta`` is what the average is away.

    With a constant rate it is ``fedavgm``. The authors of Ferret keep momentum on the coordinates, whose
    directions are fixed; it is the same there.

    Source
    ------
    The server's step of Y. Shu et al., "Ferret", arXiv 2409.06277, whose code lets the rate fall linearly.
    """

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"learning_rate": 3.0},
        {"learning_rate": 4.0, "decay": "linear", "decay_rounds": 5, "momentum": 0.5},
        {"learning_rate": 2.0, "decay": "geometric", "least_rate": 0.1},
    )

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the step along the momentum."""
        rate, ended = self.rate_of(state)
        moved = {name: one - before[name] for name, one in average.items()}
        kept = dict(state)
        if self.momentum:
            moved |= {name: self.momentum * state[name] + one for name, one in moved.items() if name in state}
            kept |= moved
        new = {name: before[name] + rate * one for name, one in moved.items()}
        return new, kept | self.counted(ended, next(iter(new.values())))
