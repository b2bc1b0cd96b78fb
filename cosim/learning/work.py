"""Work: one computation of the value plane, described before it is computed.

A :class:`Work` says which operation, on which inputs, under which settings. Its
key is a hash of everything that decides its value and of nothing about time,
radio or device speed, so two runs that meet the same key have the same value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

OPERATIONS = {
    "start": 1,
    "client_forward": 1,
    "server_exchange": 1,
    "client_backward": 1,
    "transmit": 1,
    "whole_gradient": 1,
    "update": 1,
    "select": 1,
    "aggregate": 1,
    "distribute": 1,
    "merge": 1,
    "part": 1,
    "evaluate": 1,
    "coherence": 1,
    "covariance": 1,
    "weighted_mean": 1,
    "pair_energies": 1,
    "ideal_update": 1,
    "mean_evaluation": 1,
    "export": 1,
}
"""Version of each operation; a change of what one computes must raise its number."""

KEPT = "kept"
"""In the place of an operation: this work stands for a value that is kept under its key."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Work:
    """One computation.

    Attributes
    ----------
    operation
        A name in :data:`OPERATIONS`, or :data:`KEPT`.
    inputs
        Outputs of other works it reads; empty for a work whose value is kept.
    settings
        What else the operation is told: plain numbers, texts, lists and tables, in a fixed order.
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


class Told:
    """Settings many works are told, written out once: their repr takes longer than the rest of a key."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._repr = repr(settings)

    def __repr__(self) -> str:
        return self._repr

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]


class Output(NamedTuple):
    """One named part of a work's value; a promise of it until somebody asks."""

    work: Work
    field: str


class Describer:
    """Describes works, numbering them in the order of description."""

    def __init__(self) -> None:
        self._order = count()

    def describe(self, operation: str, inputs: Sequence[Output], **settings: Any) -> Work:
        """Return the work; nothing is computed."""
        read = [(one.work.key, one.field) for one in inputs]
        # repr of plain numbers and texts is exact, and several times faster than json
        content = repr((operation, OPERATIONS[operation], read, settings))
        key = blake2b(content.encode(), digest_size=16).hexdigest()
        return Work(operation, tuple(inputs), settings, key, next(self._order))
