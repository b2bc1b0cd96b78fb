"""What a training starts from, and the parts of an adapter on either side of a cut."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("start", state=("adapter", "optimizer"))
def start(learner: "Learner", params: Mapping[str, Any]) -> Fields:
    """Return the initial adapter of ``part`` (client, server or whole), and its optimiser's state."""
    adapter = learner.model.initial_adapter()
    if params["part"] != "whole":
        adapter = learner.part_of(adapter, params["part"], params["cut_layer"])
    return {"adapter": adapter, "optimizer": learner.optimizer.start(adapter)}


@operation("part", state=("adapter",))
def part(learner: "Learner", params: Mapping[str, Any], whole: "Adapter") -> Fields:
    """Return what of a whole adapter is on one side of a cut."""
    return {"adapter": learner.part_of(whole, params["part"], params["cut_layer"])}
