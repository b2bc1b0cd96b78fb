"""The task that is worth most for what it takes."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, Offer, TaskPolicy


class ValuePerCost(TaskPolicy):
    """Takes the largest ``(gap * (1 + age_weight * age) + drift_weight * new_data) / cost``.

    The gap is the task's last held-out loss over that before training, the age counts turns begun on other
    tasks since the last one on this, and ``new_data`` is the share of the client's data that it has
    not drawn from. The cost is what a turn is expected to take of this client, with the grants and the
    air as they are. Of equals the first counts.

    Attributes
    ----------
    cost
        Joules of a turn, or its seconds.
    age_weight, drift_weight
        How much age and new data count.

    Source
    ------
    Z.-L. Chang, S. Hosseinalipour, M. Chiang, C. G. Brinton, "Asynchronous multi-model dynamic federated
    learning over wireless networks", IEEE TCCN 2024, arXiv 2305.13503, of which we saw the abstract. There a
    mixed-integer programme weighs energy against a bound on convergence; this is our stand-in for
    it. Its drift is the change of the local loss in a unit of time; ours is the share of new data, which
    a client knows without computing anything.
    """

    kind: Literal["value_per_cost"] = "value_per_cost"
    cost: Literal["energy", "latency"] = "energy"
    age_weight: float = Field(default=0.1, ge=0.0)
    drift_weight: float = Field(default=1.0, ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"cost": "latency"})

    def choose(self, arrival: Arrival, stream: Stream) -> int:
        """Return the open task of the largest value per cost."""
        return max(arrival.open, key=lambda place: (self._value(arrival.offers[place]), -place))

    def _value(self, offer: Offer) -> float:
        cost = offer.cost.energy_j if self.cost == "energy" else offer.cost.latency_s
        value = offer.gap * (1.0 + self.age_weight * offer.age) + self.drift_weight * offer.new_data
        return value / cost if cost > 0.0 else float("inf")
