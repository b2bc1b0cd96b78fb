"""Whether what a training computes is still made of numbers."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.graph.node import Node, Ref


_MANY = 1 << 16


class NotFiniteError(Exception):
    """Values are not finite that a training builds on.

    Attributes
    ----------
    refs
        Which, in the order in which they were computed; at least one.
    known
        What was asked for and is known in spite of it, by key and field.
    fault
        Why the computation could not go on with them; empty where it could.
    """

    def __init__(self, refs: "tuple[Ref, ...]", known: dict[tuple[str, str], Any], fault: str = "") -> None:
        super().__init__(refs, known, fault)
        self.refs, self.known, self.fault = refs, known, fault


def not_finite(node: "Node", inputs: Sequence[Any], fields: Mapping[str, Any]) -> "list[Ref]":
    """Return those fields of a node's value whose numbers a training cannot build on.

    Looked at are all numbers but those that may overflow, and the tensors that
    the operation names as its state: what lives within one pass shows in its loss.
    Where one is not finite, the gradients among the ``inputs`` that led to it come first.
    """
    operation = node.operation
    looked_at = {
        name: value
        for name, value in fields.items()
        if name in operation.state or (isinstance(value, float) and name not in operation.may_overflow)
    }
    if is_finite(*looked_at.values()):  # one look at all of them, which is nearly always the only one
        return []
    passing = [
        one
        for one, value in zip(node.inputs, inputs, strict=True)
        if one.field in one.node.operation.passing and not is_finite(value)
    ]
    return passing + [node.ref(name) for name, value in looked_at.items() if not is_finite(value)]


def is_finite(*values: Any) -> bool:
    """Return whether numbers, tensors, and tensors by name hold nothing but finite numbers.

    What is none of these, such as the bytes of a file, counts as finite.
    """
    numbers: list[Any] = []
    for value in values:
        if isinstance(value, float):
            if not isfinite(value):
                return False
        elif not isinstance(value, int | bytes):
            numbers += _tensors(value)
    if not numbers:
        return True
    import torch

    # a finite norm has nothing else in it, and takes no copy
    is_large = sum(one.numel() for one in numbers) > _MANY
    if is_large and isfinite(torch.stack(torch._foreach_norm(numbers)).sum().item()):
        return True
    together = torch.cat([one.reshape(-1) for one in numbers])
    return bool((together - together).sum() == 0)  # inf - inf and nan - nan are nan; faster than isfinite


def _tensors(value: Any) -> "list[Tensor]":
    """Return the tensors of a value that hold anything but whole numbers."""
    import torch

    if hasattr(value, "plain"):  # a row of a stack
        value = value.plain()
    tensors = value.values() if isinstance(value, Mapping) else (value,)
    return [
        one.detach() if one.requires_grad else one
        for one in tensors
        if isinstance(one, torch.Tensor) and one.is_floating_point()
    ]
