"""Rates of the server that fall from round to round."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cosim.learning.server_optimizer import ServerOptimizer, Tensors

if TYPE_CHECKING:
    from torch import Tensor

_ROUND = "round"


class Decaying(ServerOptimizer):
    """A server optimiser whose rate falls with the rounds; the state counts them.

    Attributes
    ----------
    learning_rate
        The rate of the first round.
    decay
        ``none``; ``linear``, down to ``least_rate`` in round ``decay_rounds`` + 1; ``geometric``, by
        ``decay_factor`` a round, but not below ``least_rate``.
    """

    learning_rate: float = Field(default=1.0, gt=0.0)
    decay: Literal["none", "linear", "geometric"] = "none"
    decay_rounds: int = Field(default=20, ge=1)
    decay_factor: float = Field(default=0.99, gt=0.0, le=1.0)
    least_rate: float = Field(default=0.0, ge=0.0)

    def rate_of(self, state: Tensors) -> tuple[float, int]:
        """Return the rate of the round that ends, and how many have ended before it."""
        ended = int(state[_ROUND].item()) if _ROUND in state else 0
        left = {
            "none": 1.0,
            "linear": max(0.0, 1.0 - ended / self.decay_rounds),
            "geometric": self.decay_factor**ended,
        }[self.decay]
        if self.decay == "linear":
            return self.least_rate + (self.learning_rate - self.least_rate) * left, ended
        return max(self.learning_rate * left, self.least_rate if self.decay == "geometric" else 0.0), ended

    def counted(self, ended: int, like: "Tensor") -> Tensors:
        """Return what the state has of the rounds, one later."""
        return {_ROUND: like.new_full((1,), float(ended + 1))}
