"""What the federated server makes of an average with an optimiser of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.server_optimizer import Sender, ServerOptimizer

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


_KNOWN = ("client", "weight", "share", "part", "rates")


@operation("follow_average", state=("adapter", "state"))
def follow_average(
    learner: "Learner",
    params: Mapping[str, Any],
    before: "Adapter",
    average: "Adapter",
    *given: "Adapter",
) -> Fields:
    """Return the next global adapter and the optimiser's state; what was not sent in the round stays.

    Behind the average are given the state, where there is one, and uploads, where each is needed.
    """
    from cosim.learning.aggregator.sums import only

    optimizer: ServerOptimizer = learner.made(ServerOptimizer, params["optimizer"])
    senders = params.get("senders", ())
    state, uploads = given[: len(given) - len(senders)], given[len(given) - len(senders) :]
    sent = only(average, set(params["factors"]))
    each = [
        Sender(upload=upload, **dict(zip(_KNOWN, known, strict=True)))
        for known, upload in zip(senders, uploads, strict=True)
    ]
    before_it = state[0] if state else {}
    if each:
        sent = {name: average[name] for name in each[0].upload}
        stepped, kept = optimizer.step_each(before, sent, before_it, each)
    else:
        stepped, kept = optimizer.step(before, sent, before_it)
    return {"adapter": learner.keep(average | stepped), "state": learner.keep(kept)}
