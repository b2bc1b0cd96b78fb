"""Whether what a training computes is still made of numbers."""

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.work import Output, Work

_STATE = frozenset(
    ("adapter", "optimizer", "residual", "memory", "adapter_gradient", "tensors", "pairs", "spectrum")
)
"""Fields of tensors that a later work builds on; what lives within one pass shows in its loss."""

_MAY_OVERFLOW = frozenset(("perplexity",))
"""Numbers that can be infinite although the training is sound: e to a large loss."""


class NotFiniteError(Exception):
    """Values are not finite that a training builds on.

    Attributes
    ----------
    outputs
        Which, in the order in which they were computed; at least one.
    known
        What was asked for and is known in spite of it, by key and field.
    fault
        Why the computation could not go on with them; empty where it could.
    """

    def __init__(
        self, outputs: "tuple[Output, ...]", known: dict[tuple[str, str], Any], fault: str = ""
    ) -> None:
        super().__init__(outputs, known, fault)
        self.outputs, self.known, self.fault = outputs, known, fault


def not_finite(work: "Work", fields: Mapping[str, Any]) -> "list[Output]":
    """Return those fields of a work's value whose numbers a training cannot build on."""
    looked_at = {
        name: value
        for name, value in fields.items()
        if name not in _MAY_OVERFLOW and (name in _STATE or isinstance(value, float))
    }
    if is_finite(*looked_at.values()):  # one look at all of them, which is nearly always the only one
        return []
    return [work.out(name) for name, value in looked_at.items() if not is_finite(value)]


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

    together = torch.cat(numbers)
    return bool((together - together).sum() == 0)  # inf - inf and nan - nan are nan; faster than isfinite


def _tensors(value: Any) -> "list[Tensor]":
    """Return the tensors of a value that hold anything but whole numbers, flat."""
    import torch

    if hasattr(value, "plain"):  # a row of a stack
        value = value.plain()
    tensors = value.values() if isinstance(value, Mapping) else (value,)
    return [
        one.detach().reshape(-1)
        for one in tensors
        if isinstance(one, torch.Tensor) and one.is_floating_point()
    ]
