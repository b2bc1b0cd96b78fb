"""The places in a PEFT model where trained tensors go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """A place for a trained tensor.

    Attributes
    ----------
    name
        What PEFT saves the tensor under.
    parameters, attribute
        The owning module's own table of parameters, and the key in it.
    """

    name: str
    parameters: dict[str, Any]
    attribute: str


def find_slots(peft_model: nn.Module) -> dict[Tensor, Slot]:
    """Return the trained parameters of a PEFT model with the places they sit in, in the model's order."""
    slots = {}
    for path, module in peft_model.named_modules():
        for attribute, weights in module._parameters.items():
            if weights is not None and weights.requires_grad:
                # PEFT leaves its own bookkeeping out of the names it saves.
                kept = path.replace(".modules_to_save.default", "").removesuffix(".default")
                slots[weights] = Slot(f"{kept}.{attribute}", module._parameters, attribute)
    return slots


def fill(slots: Sequence[Slot], tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into their places, by reference.

    The table of the module is set, not ``parameter.data``, and nothing is
    copied: the graphs of several clients are alive at once, and each must end
    in the very tensors it was built on, whoever used the slots since.
    """
    for slot in slots:
        slot.parameters[slot.attribute] = tensors[slot.name]
