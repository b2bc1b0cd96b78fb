"""What the air makes of updates that are sent at once: their weighted sum and noise."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("superpose", state=("adapter",))
def superpose(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *senders: "Adapter"
) -> Fields:
    """Return what the server has afterwards: what all began from, plus the noisy sum of the updates.

    An update is what a client has less what all began from; one whose root mean
    square is above ``max_rms`` is scaled down to it, in all its numbers alike.
    Noise is drawn on the CPU from ``seed`` in the order of the names.
    """
    import torch

    noise = torch.Generator()
    if params["seed"] is not None:
        noise.manual_seed(params["seed"])
    shrunk = [
        weight * _scale(reference, sender, params["max_rms"])
        for sender, weight in zip(senders, params["weights"], strict=True)
    ]
    received = {}
    for name, begin in reference.items():
        total = begin.clone()
        for sender, weight in zip(senders, shrunk, strict=True):
            total += weight * (sender[name] - begin)
        if params["seed"] is not None:
            drawn = torch.randn(begin.shape, generator=noise, dtype=torch.float64)
            total += (params["noise_std"] * drawn).to(begin)
        received[name] = total
    return {"adapter": received}


@operation("superpose_numbers", state=("adapter",))
def superpose_numbers(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *senders: "Adapter"
) -> Fields:
    """Return what the server restores from the noisy sum of what steps made of the updates."""
    from cosim.learning.operations.transmit import encoding_of

    nothing = {name: tensor.new_zeros(tensor.shape) for name, tensor in senders[0].items()}
    numbers = superpose.body(learner, params, nothing, *senders)["adapter"]
    encoding = encoding_of(learner, params["encoding"])
    return {"adapter": encoding.of_sum(numbers, reference, params.get("common_seed"))}


def _scale(reference: "Adapter", sender: "Adapter", max_rms: float) -> float:
    """Return the factor that keeps an update's root mean square at the limit or below."""
    updates: list[Tensor] = [(sender[name] - begin).double() for name, begin in reference.items()]
    count = sum(update.numel() for update in updates)
    squares = float(sum(float((update**2).sum()) for update in updates))
    rms = (squares / count) ** 0.5 if count else 0.0
    return 1.0 if rms <= max_rms else max_rms / rms
