"""What the federated server makes of uploads, and what clients start the next round with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.aggregator import Server

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("select", state=("adapter",))
def select(learner: "Learner", params: Mapping[str, Any], adapter: "Adapter") -> Fields:
    """Return what is sent: of these factors, and not private."""
    from cosim.learning.aggregator.sums import only

    sent = only(adapter, set(params["factors"]))
    return {"adapter": {name: one for name, one in sent.items() if name not in params.get("private", ())}}


LOSS = "loss"
"""Name of a client's loss beside its adapter."""


@operation("with_loss", state=("bundle",))
def with_loss(learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", loss: float = 0.0) -> Fields:
    """Return an adapter with a loss beside it, zero where none is given."""
    like = next(iter(adapter.values()))
    return {"bundle": adapter | {LOSS: like.new_full((1,), loss)}}


@operation("mean", state=("adapter",))
def mean(learner: "Learner", params: Mapping[str, Any], *adapters: "Adapter") -> Fields:
    """Return the weighted mean of adapters, number by number."""
    from cosim.learning.aggregator.sums import weighted_sum

    return {"adapter": weighted_sum(adapters, params["weights"])}


@operation("aggregate", state=("adapter", "residual"))
def aggregate(learner: "Learner", params: Mapping[str, Any], *inputs: "Adapter") -> Fields:
    """Return the aggregator's average, and what is merged into the base."""
    weights = params["weights"]
    count = len(weights)
    uploads, rest = inputs[:count], inputs[count:]
    masks = rest[:count] if params["masked"] else None
    adapter, *residual = rest if masks is None else rest[count:]
    losses = [float(one[LOSS]) for one in uploads] if params.get("losses") else None
    if losses is not None:
        uploads = tuple({name: one for name, one in each.items() if name != LOSS} for each in uploads)
    server = Server(
        adapter=adapter,
        residual=residual[0] if residual else {},
        scaling=params["scaling"],
        round=params["round"],
        seed=params["seed"],
        masks=masks,
        losses=losses,
    )
    average = learner.aggregator.aggregate(uploads, weights, server)
    return {"adapter": average.adapter, "residual": average.residual}


@operation("distribute", state=("adapter", "optimizer"))
def distribute(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", own: "Adapter | None" = None
) -> Fields:
    """Return what a client starts a round with, of its own what is not shared."""
    from cosim.learning.aggregator.sums import only, truncated

    start = truncated(adapter, params["rank"])
    if own is not None:
        shared, private = only(start, set(params["shared"])), params.get("private", ())
        start = own | {name: one for name, one in shared.items() if name not in private}
    fields: Fields = {"adapter": learner.keep(start)}
    if params["optimizer"] is not None:
        fields["optimizer"] = learner.optimizer.start(only(start, set(params["trained"])))
    return fields


@operation("merge", state=("adapter",))
def merge(learner: "Learner", params: Mapping[str, Any], *inputs: "Adapter") -> Fields:
    """Return every block averaged: a client's own where it has one, for others the server's."""
    from cosim.learning.aggregator.sums import weighted_sum

    *uploads, server = inputs
    merged: Adapter = {}
    weighted = list(zip(uploads, params["weights"], strict=True))
    for name in learner.model.names:
        terms = [(one[name], weight) for one, weight in weighted if name in one]
        if not terms:
            merged[name] = server[name]
            continue
        others = params["absent"] + sum(weight for one, weight in weighted if name not in one)
        if others > 0.0:
            terms.append((server[name], others))
        merged |= weighted_sum([{name: tensor} for tensor, _ in terms], [one for _, one in terms])
    return {"adapter": learner.keep(merged)}
