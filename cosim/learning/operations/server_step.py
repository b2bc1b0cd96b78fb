"""What the federated server makes of an average with an optimiser of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.server_optimizer import ServerOptimizer

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("follow_average", state=("adapter", "state"))
def follow_average(
    learner: "Learner",
    params: Mapping[str, Any],
    before: "Adapter",
    average: "Adapter",
    state: "Adapter | None" = None,
) -> Fields:
    """Return the next global adapter and the optimiser's state; what was not sent in the round stays."""
    from cosim.learning.aggregator.sums import only

    optimizer: ServerOptimizer = learner.made(ServerOptimizer, params["optimizer"])
    sent = only(average, set(params["factors"]))
    stepped, kept = optimizer.step(before, sent, state or {})
    return {"adapter": learner.keep(average | stepped), "state": learner.keep(kept)}
