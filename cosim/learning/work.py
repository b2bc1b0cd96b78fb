"""Work: one computation of the value plane, described before it is computed.

A :class:`Work` says which operation, on which inputs, under which settings. Its
key is a hash of everything that decides its value and of nothing about time,
radio or device speed, so two runs that meet the same key have the same value.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any

OPERATIONS = {
    "start": 1,
    "client_forward": 1,
    "server_exchange": 1,
    "client_backward": 1,
    "whole_gradient": 1,
    "update": 1,
    "aggregate": 1,
    "evaluate": 1,
}
"""Version of each operation; a change of what one computes must raise its number."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Work:
    """One computation.

    Attributes
    ----------
    operation
        A name in :data:`OPERATIONS`.
    inputs
        Outputs of other works it reads; empty for a work whose value is kept.
    settings
        What else the operation is told, as plain numbers, texts and tuples.
    key
        Hex; decides the value.
    order
        Place in the order of description: a work comes after its inputs.
    """

    operation: str
    inputs: tuple["Output", ...]
    settings: dict[str, Any]
    key: str
    order: int

    def out(self, field: str) -> "Output":
        """Return one named part of this work's value."""
        return Output(self, field)


@dataclass(frozen=True, slots=True)
class Output:
    """One named part of a work's value; a promise of it until somebody asks."""

    work: Work
    field: str


class Describer:
    """Describes works, numbering them in the order of description."""

    def __init__(self) -> None:
        self._order = count()

    def describe(self, operation: str, inputs: Sequence[Output], **settings: Any) -> Work:
        """Return the work; nothing is computed."""
        content = (
            operation,
            OPERATIONS[operation],
            [(one.work.key, one.field) for one in inputs],
            settings,
        )
        key = blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
        return Work(operation, tuple(inputs), settings, key, next(self._order))
