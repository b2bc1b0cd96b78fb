"""Steps scaled by what the second moments of a round's changes have been."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from cosim.learning.server_optimizer import ServerOptimizer, Tensors

if TYPE_CHECKING:
    from torch import Tensor


class Adaptive(ServerOptimizer):
    """A step of ``learning_rate m / (sqrt(v) + tau)``, with running moments of what averages are away.

    ``m`` keeps the share ``beta_1`` of itself and takes in the rest of ``delta``, what the average
    is away from where the round began; it begins at zero. ``v`` follows the squares of ``delta`` and
    begins at ``tau`` squared. As in the source, and unlike Adam's, they are not corrected for that.

    Source
    ------
    S. Reddi et al., "Adaptive federated optimization", ICLR 2021, arXiv 2003.00295, algorithm 2.
    """

    learning_rate: float = Field(default=0.01, gt=0.0)
    beta_1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta_2: float = Field(default=0.99, ge=0.0, lt=1.0)
    tau: float = Field(default=1e-3, gt=0.0)

    @abstractmethod
    def second_moment(self, before: "Tensor", square: "Tensor") -> "Tensor":
        """Return the second moment after a round, from the one before and the squared change."""

    def step(self, before: Tensors, average: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the scaled step."""
        new, kept = {}, dict(state)  # what takes no part in this round waits
        for name, one in average.items():
            delta = one - before[name]
            first = state.get(f"m/{name}", delta.new_zeros(delta.shape))
            second = state.get(f"v/{name}", delta.new_full(delta.shape, self.tau**2))
            first = self.beta_1 * first + (1.0 - self.beta_1) * delta
            second = self.second_moment(second, delta * delta)
            kept[f"m/{name}"], kept[f"v/{name}"] = first, second
            new[name] = before[name] + self.learning_rate * first / (second.sqrt() + self.tau)
        return new, kept
