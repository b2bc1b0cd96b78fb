"""The places in a model where trained tensors go."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cosim.errors import ScenarioError


@dataclass(frozen=True)
class Slot:
    """A place for a trained tensor.

    Attributes
    ----------
    name
        What the tensor is saved under. A tensor that two places share has the name of the first.
    parameters, attribute
        The owning module's own table of parameters, and the key in it.
    weights
        What is there before anything is trained.
    is_again
        Whether its tensor has a place before this one.
    """

    name: str
    parameters: dict[str, Any]
    attribute: str
    weights: Tensor
    is_again: bool


@dataclass(frozen=True)
class BaseSlot:
    """The frozen weights below an adapter.

    Attributes
    ----------
    residual_name
        The name of the adapter's A, which also names what is merged into these weights.
    name
        The parameter, as PEFT calls it.
    parameters, attribute
        As for :class:`Slot`.
    weights
        The weights as they were loaded.
    is_transposed
        Whether they are stored as (inputs, outputs).
    """

    residual_name: str
    name: str
    parameters: dict[str, Any]
    attribute: str
    weights: Tensor
    is_transposed: bool

    def stored(self, residual: Tensor) -> Tensor:
        """Return a matrix of shape (outputs, inputs) as these weights are stored."""
        return residual.T if self.is_transposed else residual


def find_slots(model: nn.Module) -> list[Slot]:
    """Return the places of the trained parameters of a model, in the model's order."""
    slots: list[Slot] = []
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        for attribute, weights in module._parameters.items():
            if weights is None or not weights.requires_grad:
                continue
            # PEFT leaves its own bookkeeping out of the names it saves.
            kept = path.replace(".modules_to_save.default", "").removesuffix(".default")
            name = names.setdefault(id(weights), f"{kept}.{attribute}")
            is_again = name != f"{kept}.{attribute}"
            slots.append(Slot(name, module._parameters, attribute, weights, is_again))
    return slots


def refuse_unannounced(model: nn.Module, announced: Collection[str]) -> None:
    """Let a model through only if it trains exactly what was announced.

    Bits, FLOP and memory are worked out from the settings before there is a
    model: whatever else were trained would be trained, and sent, unseen.

    Raises
    ------
    ScenarioError
        If a parameter is trained that was not announced, or the other way round.
    """
    trained = {slot.name for slot in find_slots(model)}
    for what, names in (
        ("would be trained that the settings do not announce", trained.difference(announced)),
        ("would not be trained that the settings announce", set(announced).difference(trained)),
    ):
        if names:
            raise ScenarioError(
                f"model: {len(names)} parameter(s) {what}, the first {min(names)}; this version of peft or "
                "transformers builds another model than cosim knows, take the versions it is tested with"
            )


def find_base_slots(peft_model: nn.Module) -> dict[str, BaseSlot]:
    """Return the frozen weights below each adapter, by the name of its A."""
    found = {}
    for path, module in peft_model.named_modules():
        base: Any = getattr(module, "base_layer", None)
        if base is None or not hasattr(module, "lora_A"):
            continue
        name = f"{path}.lora_A.weight"
        slot = BaseSlot(
            residual_name=name,
            name=f"{path}.base_layer.weight",
            parameters=base._parameters,
            attribute="weight",
            weights=base.weight,
            is_transposed=bool(getattr(module, "fan_in_fan_out", False)),
        )
        found[name] = slot
    return found


class BlockSlots:
    """The places of a model by block: 0 in front, ``num_layers + 1`` behind.

    A tied head has its tensor once more behind.

    Parameters
    ----------
    model
        The model, with places for what is trained.
    blocks
        The block of each trained tensor by its name.
    num_layers
        How many blocks the model has.
    """

    def __init__(self, model: nn.Module, blocks: Mapping[str, int], num_layers: int) -> None:
        self._slots: list[list[Slot]] = [[] for _ in range(num_layers + 2)]
        for slot in find_slots(model):
            self._slots[-1 if slot.is_again else blocks[slot.name]].append(slot)
        base = find_base_slots(model)
        self._base = [[base[slot.name] for slot in group if slot.name in base] for group in self._slots]
        self._merged: set[int] = set()

    @property
    def all(self) -> list[Slot]:
        """The place of each trained tensor; of two places the first."""
        return [slot for group in self._slots for slot in group if not slot.is_again]

    def names(self, first: int, last: int) -> tuple[str, ...]:
        """Return the names of what is trained in some blocks, both ends included."""
        groups = self._slots[first : last + 1]
        return tuple(dict.fromkeys(slot.name for group in groups for slot in group))

    def fill(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors into the places of a block, by reference.

        The table of the module is set, not ``parameter.data``, and nothing is
        copied: the graphs of several clients are alive at once, and each must end
        in the very tensors it was built on, whatever used the slots since.
        """
        for slot in self._slots[block]:
            slot.parameters[slot.attribute] = tensors[slot.name]

    def merge(self, block: int, residual: Mapping[str, Tensor] | None) -> None:
        """Let the frozen weights of a block be with what is merged into them; without that, themselves."""
        if not residual and block not in self._merged:
            return
        for slot in self._base[block]:
            weights = slot.weights
            if residual and slot.residual_name in residual:
                more = slot.stored(residual[slot.residual_name])
                weights = (weights.detach() + more).to(weights.dtype)
            slot.parameters[slot.attribute] = weights
        (self._merged.add if residual else self._merged.discard)(block)

    def stored(self, residual: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is merged into the base by the names and in the shapes of its parameters."""
        slots = [slot for group in self._base for slot in group if slot.residual_name in residual]
        return {slot.name: slot.stored(residual[slot.residual_name]) for slot in slots}
