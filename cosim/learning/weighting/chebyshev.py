"""By loss, near to alike."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.weighting import Sender, Weighting


class Chebyshev(Weighting):
    """Those who lose most count most, within ``epsilon`` of all alike.

    The weights that make the weighted sum of losses over their goals largest. Up to one over the
    number of senders, half of them get ``epsilon`` more and half ``epsilon`` less; above, weights
    stop at 0, and near one the worst client is alone.

    Attributes
    ----------
    epsilon
        How far a weight may be from all alike; 0 is the mean over clients.
    goal
        What a client's loss is measured from: ``zero``, or ``best_seen``, the lowest it has reported.

    Source
    ------
    S. M. Hamidi, A. Bereyhi, S. Asaad and H. V. Poor, "Over-the-air fair federated learning via
    multi-objective optimization", arXiv 2501.03392: their modified Chebyshev weights (method card 2:
    the form is recalled, the closed form re-derived). Losses that are equal count alike.
    """

    kind: Literal["chebyshev"] = "chebyshev"
    needs_losses: ClassVar[bool] = True
    epsilon: float = Field(default=0.1, ge=0.0, le=1.0)
    goal: Literal["zero", "best_seen"] = "zero"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"epsilon": 0.6, "goal": "best_seen"})

    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return the weights; all alike where nobody reports a loss."""
        return near_alike([self._excess(one) for one in senders], self.epsilon)

    def _excess(self, sender: Sender) -> float:
        goal = sender.best_loss if self.goal == "best_seen" else 0.0
        return (sender.loss or 0.0) - (goal or 0.0)


def near_alike(losses: Sequence[float], epsilon: float) -> list[float]:
    """Return the weights within ``epsilon`` of all alike whose weighted sum of losses is largest.

    Examples
    --------
    >>> near_alike([3.0, 1.0, 2.0, 4.0], 0.125)
    [0.375, 0.125, 0.125, 0.375]
    >>> near_alike([1.0, 1.0], 0.5)
    [0.5, 0.5]
    """
    even = 1.0 / len(losses)
    low, high = max(0.0, even - epsilon), min(1.0, even + epsilon)
    weights, left = [low] * len(losses), 1.0 - low * len(losses)
    for loss in sorted(set(losses), reverse=True):
        alike = [number for number, one in enumerate(losses) if one == loss]
        more = min(high - low, left / len(alike))
        for number in alike:
            weights[number] += more
        left -= more * len(alike)
    return weights
