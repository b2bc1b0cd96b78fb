"""Control variates: what clients send of theirs beside an update, and what the server makes of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.local_rule import LocalRule

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter

VARIATE = "variate/"
"""Begins the name of a variate in what is sent; the rest is that of its tensor."""


def _marked(variates: "Adapter") -> "Adapter":
    return {VARIATE + name: one for name, one in variates.items()}


@operation("with_variates", state=("bundle",))
def with_variates(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", common: "Adapter | None" = None
) -> Fields:
    """Return an adapter with the common variate beside it, zero before there is one."""
    zeros = {name: one.new_zeros(one.shape) for name, one in adapter.items()}
    return {"bundle": adapter | _marked(zeros if common is None else common)}


@operation("end_local_round", state=("own", "bundle"))
def end_local_round(
    learner: "Learner", params: Mapping[str, Any], start: "Adapter", after: "Adapter", *variates: "Adapter"
) -> Fields:
    """Return a client's own variate after its local steps, and what it sends of adapter and variate."""
    rule: LocalRule = learner.made(LocalRule, params["rule"])
    known = {"common": {}, "own": {}, **dict(zip(params["given"], variates, strict=True))}
    own, sent = rule.ended(start, after, params["rates"], **known)
    return {"own": learner.keep(own), "bundle": after | _marked(sent)}


@operation("part_variates", state=("adapter", "common"))
def part_variates(
    learner: "Learner", params: Mapping[str, Any], mean: "Adapter", common: "Adapter | None" = None
) -> Fields:
    """Return the mean adapter, and the common variate moved towards the mean of what was sent of it."""
    adapter = {name: one for name, one in mean.items() if not name.startswith(VARIATE)}
    moved = {}
    for name in adapter:
        sent = mean[VARIATE + name]
        before = sent.new_zeros(sent.shape) if common is None else common[name]
        moved[name] = before + params["share"] * (sent - before)
    return {"adapter": learner.keep(adapter), "common": learner.keep(moved)}
