"""A client's share of the model: which units remain, what it trains of them, and where that belongs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("choose_units", state=("units",))
def choose_units(learner: "Learner", params: Mapping[str, Any], adapter: "Adapter") -> Fields:
    """Return the units that remain, ``params["kept"]`` of each block: by the size of their weights.

    Where there is a ``batch``, by that of weights times gradients.
    """
    from cosim.learning.narrowing import choose

    heads_and_columns = tuple((heads, columns) for heads, columns in params["kept"])
    slopes = None
    if "batch" in params:
        from cosim.learning.slopes import slopes_of

        slopes = slopes_of(learner.model, adapter, learner.batch(params))
    return {"units": choose(learner.model, adapter, heads_and_columns, slopes)}


@operation("narrow", state=("adapter", "optimizer"))
def narrow(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    optimizer: "dict[str, Tensor]",
    units: "Adapter",
) -> Fields:
    """Return what a client trains of the units that remain, and its optimiser's memory of it."""
    from cosim.learning import narrowing
    from cosim.learning.units import axes_of

    axes = axes_of(learner.model.shape, adapter)
    parts = (narrowing.narrow(one, axes, units) for one in (adapter, optimizer))
    return dict(zip(("adapter", "optimizer"), map(learner.keep, parts), strict=True))


@operation("narrow_gradient", passing=("adapter_gradient",))
def narrow_gradient(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", units: "Adapter"
) -> Fields:
    """Return the mean loss of a mini-batch under the units that remain, nats, and its gradient."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss

    leaves = leaves_of(adapter)
    outputs = learner.narrowed(units).whole_outputs(leaves, learner.batch(params), params["dropout"])
    loss = mean_loss(outputs)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return {"loss": loss.item(), "adapter_gradient": dict(zip(leaves, gradients, strict=True))}


@operation("widen", state=("adapter", "optimizer"))
def widen(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    optimizer: "dict[str, Tensor]",
    narrow_adapter: "Adapter",
    narrow_optimizer: "dict[str, Tensor]",
    units: "Adapter",
) -> Fields:
    """Return a client's whole side with what it trained put back; what was left out is as it was."""
    from cosim.learning import narrowing
    from cosim.learning.units import axes_of

    axes = axes_of(learner.model.shape, adapter)
    pairs = ((adapter, narrow_adapter), (optimizer, narrow_optimizer))
    parts = (narrowing.widen(whole, part, axes, units) for whole, part in pairs)
    return dict(zip(("adapter", "optimizer"), map(learner.keep, parts), strict=True))


@operation("widen_upload", state=("adapter", "mask"))
def widen_upload(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", upload: "Adapter", units: "Adapter"
) -> Fields:
    """Return an upload in the places of the global adapter, and where it has anything."""
    from cosim.learning import narrowing
    from cosim.learning.units import axes_of

    axes = axes_of(learner.model.shape, upload)
    known = {name: adapter[name] for name in upload}
    return {
        "adapter": narrowing.widen(known, upload, axes, units),
        "mask": narrowing.marks(known, axes, units),
    }
