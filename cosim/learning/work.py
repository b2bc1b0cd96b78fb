"""Work: one computation of the value plane, described before it is computed.

A :class:`Work` says which operation, on which inputs, under which settings. Its
key is a hash of everything that decides its value and of nothing about time,
radio or device speed, so two runs that meet the same key have the same value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

from cosim.learning.code_identity import code_key, code_of
from cosim.parts import Part

_TRAINER, _PAIRS = "cosim.learning.trainer", "cosim.learning.pair_works"
_AIR = "cosim.learning.superposition"

OPERATIONS = {
    "start": _TRAINER,
    "client_forward": _TRAINER,
    "server_exchange": _TRAINER,
    "client_backward": _TRAINER,
    "transmit": _TRAINER,
    "whole_gradient": _TRAINER,
    "update": _TRAINER,
    "select": _TRAINER,
    "superpose": _AIR,
    "aggregate": _TRAINER,
    "distribute": _TRAINER,
    "merge": _TRAINER,
    "part": _TRAINER,
    "evaluate": _TRAINER,
    "coherence": _PAIRS,
    "covariance": _PAIRS,
    "weighted_mean": _PAIRS,
    "pair_energies": _PAIRS,
    "ideal_update": _PAIRS,
    "mean_evaluation": _TRAINER,
    "export": _TRAINER,
}
"""The module that computes each operation: its code is part of the key, and nothing else computes it."""

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
    """Settings many works are told, written out once: their repr takes longer than the rest of a key.

    Parameters
    ----------
    settings
        Plain values by name.
    code
        Hash of the code that makes something of them, where it is not that of the operation.
    """

    def __init__(self, settings: Mapping[str, Any], code: str | None = None) -> None:
        self.settings = dict(settings)
        self._repr = repr(self.settings if code is None else (self.settings, code))

    @classmethod
    def of(cls, part: Part, exclude: frozenset[str] = frozenset()) -> "Told":
        """Return a part as works are told of it: its settings, and the code they are settings of."""
        return cls(part.model_dump(mode="json", exclude=set(exclude)), code_of(part))

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
        codes = {module: code_key(module) for module in set(OPERATIONS.values())}
        self._codes = {operation: codes[module] for operation, module in OPERATIONS.items()}

    def describe(self, operation: str, inputs: Sequence[Output], **settings: Any) -> Work:
        """Return the work; nothing is computed."""
        read = [(one.work.key, one.field) for one in inputs]
        # repr of plain numbers and texts is exact, and several times faster than json
        content = repr((operation, self._codes[operation], read, settings))
        key = blake2b(content.encode(), digest_size=16).hexdigest()
        return Work(operation, tuple(inputs), settings, key, next(self._order))
