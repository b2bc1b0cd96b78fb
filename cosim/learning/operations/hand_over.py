"""What a stage of a training starts from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.learning.handover import Handover
from cosim.learning.trainable import Trainable

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("hand_over", state=("adapter", "residual", "optimizer"))
def hand_over(
    learner: "Learner",
    params: Mapping[str, Any],
    trained: "Adapter",
    fresh: "Adapter",
    merged: "Adapter | None" = None,
) -> Fields:
    """Return the adapter, what is merged into the base, and the optimiser; the head goes on as it is.

    Parameters
    ----------
    learner, params
        The learner of the stage that begins; ``before`` is what the stage before it trained.
    trained, merged
        What that stage learned, and what it merged into the base.
    fresh
        What a training by itself starts from.
    """
    before: Trainable = learner.made(Trainable, params["before"])
    handover: Handover = learner.made(Handover, params["handover"])
    now, shape = learner.model.trainable, learner.model.shape
    changes = before.changes(trained, merged or {}, shape)
    known = {name: changes[layer] for layer, name in now.layers(shape).items() if layer in changes}
    begun = handover.begin(known, fresh, now.scaling)
    heads = {name.removeprefix("base_model.model."): tensor for name, tensor in trained.items()}
    kept = {
        name: heads.get(name.removeprefix("base_model.model."), one) for name, one in begun.adapter.items()
    }
    adapter = learner.keep(kept)
    return {
        "adapter": adapter,
        "residual": begun.residual,
        "optimizer": learner.optimizer.start(adapter),
        "kept_energy": begun.kept_energy,
    }
