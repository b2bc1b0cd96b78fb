"""What the air makes of updates that are sent at once: their weighted sum and noise."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
    With ``mean`` that is taken off all numbers before they are sent, and put back afterwards.
    Noise is drawn on the CPU from ``seed`` in the order of the names. Where numbers
    meet different air, ``uneven`` says so as the medium does, and ``order_seed`` in which
    order they are laid on the resource elements.
    """
    import torch

    noise = torch.Generator()
    if params["seed"] is not None:
        noise.manual_seed(params["seed"])
    if "uneven" in params:
        return {"adapter": _unevenly(params, reference, senders, noise)}
    mean = params.get("mean", 0.0)
    totals, shrunk = [begin.clone() for begin in reference.values()], []
    for sender, weight in zip(senders, params["weights"], strict=True):
        updates = _updates(reference, sender)
        shrunk.append(weight * _scale(updates, params["max_rms"], mean))
        if totals:
            torch._foreach_add_(totals, torch._foreach_mul(updates, shrunk[-1]))
    received = dict(zip(reference, totals, strict=True))
    for total in totals:
        if mean:
            total += mean * (1.0 - sum(shrunk))
        if params["seed"] is not None:
            drawn = torch.randn(total.shape, generator=noise, dtype=torch.float64)
            total += (params["noise_std"] * drawn).to(total)
    return {"adapter": received}


@operation("superpose_numbers", state=("adapter",))
def superpose_numbers(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *senders: "Adapter"
) -> Fields:
    """Return what the server restores from the noisy sum of what steps made of the updates."""
    from cosim.learning.operations.transmit import encoding_of

    numbers = superpose.body(learner, params, _nothing_like(senders[0]), *senders)["adapter"]
    encoding = encoding_of(learner, params["encoding"])
    return {"adapter": encoding.of_sum(numbers, reference, params.get("common_seed"))}


@operation("sent_power")
def sent_power(
    learner: "Learner", params: Mapping[str, Any], sender: "Adapter", *reference: "Adapter"
) -> Fields:
    """Return the power of an update as it is sent, as a share of that of values of full size.

    Without a reference what the sender has is what it sends.
    """
    began = reference[0] if reference else _nothing_like(sender)
    rms = _rms(_updates(began, sender), params.get("mean", 0.0))
    return {"share": min(1.0, rms / params["max_rms"]) ** 2 if rms else 0.0}


@operation("moments")
def moments(
    learner: "Learner", params: Mapping[str, Any], sender: "Adapter", *reference: "Adapter"
) -> Fields:
    """Return mean and variance of the numbers of an update as it is sent."""
    import torch

    began = reference[0] if reference else _nothing_like(sender)
    numbers = torch.cat([(sender[name] - begin).double().reshape(-1) for name, begin in began.items()])
    return {"mean": float(numbers.mean()), "variance": float(numbers.var(correction=0))}


def _nothing_like(numbers: "Adapter") -> "Adapter":
    return {name: tensor.new_zeros(tensor.shape) for name, tensor in numbers.items()}


def _updates(reference: "Adapter", sender: "Adapter") -> "list[Tensor]":
    """Return what a sender has less what all began from, in the order of the names."""
    import torch

    if not reference:
        return []
    return list(torch._foreach_sub([sender[name] for name in reference], list(reference.values())))


def _rms(updates: "Sequence[Tensor]", mean: float = 0.0) -> float:
    """Return the root mean square of an update around a number."""
    import torch

    if not updates:
        return 0.0
    squares = (torch.cat([one.reshape(-1) for one in updates]).double() - mean) ** 2
    sums = [one.sum() for one in torch.split(squares, [one.numel() for one in updates])]
    return float((sum(torch.stack(sums).tolist()) / max(len(squares), 1)) ** 0.5)


def _scale(updates: "Sequence[Tensor]", max_rms: float, mean: float = 0.0) -> float:
    """Return the factor that keeps an update's root mean square at the limit or below."""
    rms = _rms(updates, mean)
    return 1.0 if rms <= max_rms else max_rms / rms


def _unevenly(
    params: Mapping[str, Any], reference: "Adapter", senders: Sequence["Adapter"], noise: Any
) -> "Adapter":
    """Return what the server has where each number meets its own block, subchannel and phases."""
    import torch

    uneven = params["uneven"]
    count = sum(begin.numel() for begin in reference.values())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(params["order_seed"]))
    element = torch.arange(count) // uneven["numbers_per_element"]  # (count,)
    symbol, subcarrier = element // sum(uneven["subcarriers"]), element % sum(uneven["subcarriers"])
    block = _place(symbol, uneven["symbols"])
    cell = block * len(uneven["subcarriers"]) + _place(subcarrier, uneven["subcarriers"])  # (count,)
    weights = torch.from_numpy(np.array(uneven["weights"], dtype=np.float64)).flatten(
        1
    )  # (num_senders, num_cells)
    mean = params.get("mean", 0.0)
    total = torch.full((count,), mean, dtype=torch.float64)
    for number, sender in enumerate(senders):
        updates = _updates(reference, sender)
        update = torch.cat([one.reshape(-1) for one in updates]).double().cpu()
        laid = _scale(updates, params["max_rms"], mean) * (update[order] - mean)
        turns = torch.zeros(count, dtype=torch.float64)
        if uneven["turns"]:
            middle = (sum(uneven["subcarriers"]) - 1) / 2.0
            a_symbol, a_subcarrier = uneven["turns"][number]
            turns = a_symbol * symbol.double() + a_subcarrier * (subcarrier.double() - middle)
        if "phases" in uneven:
            turns = (
                turns + torch.from_numpy(np.array(uneven["phases"][number], dtype=np.float64)).flatten()[cell]
            )
        if uneven["turns"] or "phases" in uneven:
            laid = _turned(laid, 2.0 * torch.pi * turns, uneven["numbers_per_element"])
        total += weights[number][cell] * laid
    if params["seed"] is not None:
        noise_std = torch.from_numpy(np.array(uneven["noise_std"], dtype=np.float64)).flatten()[cell]
        total += noise_std * torch.randn(count, generator=noise, dtype=torch.float64)
    received = torch.empty_like(total)
    received[order] = total
    parts = torch.split(received, [begin.numel() for begin in reference.values()])
    return {
        name: begin + part.reshape(begin.shape).to(begin)
        for (name, begin), part in zip(reference.items(), parts, strict=True)
    }


def _place(numbers: "Tensor", sizes: Sequence[int]) -> "Tensor":
    """Return in which of several runs of these sizes, one after the other, each number lies."""
    import torch

    return torch.searchsorted(torch.tensor(sizes).cumsum(0), numbers, right=True)


def _turned(values: "Tensor", phases: "Tensor", numbers_per_element: int) -> "Tensor":
    """Return what the receiver has of values whose phase is off, shape (count,).

    One number an element keeps its part in phase; two turn into each other.
    """
    import torch

    if numbers_per_element == 1:
        return values * phases.cos()
    padded = torch.nn.functional.pad(values, (0, values.numel() % 2))
    first, second = padded.reshape(-1, 2).unbind(1)
    cos, sin = phases[::2].cos(), phases[::2].sin()
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=1)
    return turned.reshape(-1)[: values.numel()]
