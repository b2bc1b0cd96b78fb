"""Knobs: what a decision may set beside the grants, declared by the part that reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cosim.errors import AllocationError

Value: TypeAlias = float | tuple[float, ...]
"""One for all, one for each client, or one for each element of a surface."""

Cut: TypeAlias = int | tuple[int, ...]
"""Blocks kept on every client, or on each client in turn."""


def layers_of(cuts: tuple[Cut, ...]) -> tuple[int, ...]:
    """Return those of some cuts that are common to all clients."""
    return tuple(cut for cut in cuts if isinstance(cut, int))


@dataclass(frozen=True)
class Knob:
    """One thing a decision may set.

    Attributes
    ----------
    name, unit
        What it is called, and in what it is counted; empty for a plain number.
    least, most
        Its range, ends included.
    per_client
        Whether each client has a value of its own; else there is one for all.
    plane
        ``value`` where what is learned depends on it, else ``time``.
    is_whole
        Whether it is a whole number.
    count
        How many values it has where it is not of clients.
    """

    name: str
    unit: str
    least: float
    most: float
    per_client: bool
    plane: Literal["time", "value"]
    is_whole: bool = False
    count: int = 1

    def check(self, value: Value, num_clients: int) -> None:
        """Refuse a value that the knob cannot have.

        Raises
        ------
        AllocationError
            With the client, the value and the range.
        """
        several = self.per_client or self.count > 1
        if isinstance(value, tuple) != several:
            needs = (
                "one for each client"
                if self.per_client
                else f"{self.count} values"
                if several
                else "one for all"
            )
            raise AllocationError(f"the knob {self.name!r} is set to {value}; give {needs}.")
        each = value if isinstance(value, tuple) else (value,)
        count = num_clients if self.per_client else self.count
        if len(each) != count:
            whose = "clients" if self.per_client else "places"
            raise AllocationError(
                f"{len(each)} values of {self.name!r} are given for {count} {whose}; give one for each."
            )
        for client, one in enumerate(each):
            if not self.least <= one <= self.most or (self.is_whole and one != int(one)):
                who = f"client {client} is given" if self.per_client else "the decision has"
                whole = "a whole number from " if self.is_whole else ""
                unit = f" {self.unit}" if self.unit else ""
                raise AllocationError(
                    f"{who} the {self.name} {one:g}{unit}; it must be {whole}{self.least:g} to "
                    f"{self.most:g}{unit}."
                )


PARTICIPATION = Knob("participation", "", 0.0, 1.0, True, "value", is_whole=True)
"""Who takes part in a round: 1, or 0."""

WEIGHT = Knob("weight", "", 0.0, 1.0, True, "value")
"""Each client's share in the average of those who take part; these add up to one."""

DELIVERY_RATE = Knob("delivery_rate", "", 1e-6, 1.0, True, "value")
"""How often what a client uploads arrives. The server divides by it and does not renormalise."""

QUANTISATION_BITS = Knob("quantisation_bits", "bit", 2.0, 16.0, True, "value", is_whole=True)
"""Width of a number of each client's update."""

SPECTRAL_EFFICIENCY = Knob("spectral_efficiency", "bit/s/Hz", 1e-9, 100.0, True, "value")
"""At which each client sends where rates are fixed."""

SPARSIFICATION_RATIO = Knob("sparsification_ratio", "", 0.0, 1.0, True, "value")
"""Share of its adapter's bits each client may send."""


ASSIGNMENT_BITS = Knob("assignment_bits", "bit", 0.0, 64.0, True, "time", is_whole=True)
"""What each client is sent about a decision before its round begins."""
PRUNING_RATIO = "pruning_ratio"


def pruning_ratio(least: float, most: float, *, per_client: bool) -> Knob:
    """Return the knob of the share of the model's units that each client, or every one, leaves out."""
    return Knob(PRUNING_RATIO, "", least, most, per_client, "value")


SURFACE_PHASES = "surface_phases"


def surface_phases(num_elements: int, num_levels: int) -> Knob:
    """Return the knob of the phases of a surface, a level for each element."""
    return Knob(SURFACE_PHASES, "", 0.0, num_levels - 1.0, False, "time", is_whole=True, count=num_elements)


def packed_phases(levels: Sequence[float], num_levels: int) -> tuple[float, ...]:
    """Return the phases of a surface as few whole numbers, each of which a float64 holds.

    The digits of a number, to the base ``num_levels`` and from the lowest on, are levels of elements.

    Examples
    --------
    >>> packed_phases((1, 0, 3), 4)
    (49.0,)
    >>> unpacked_phases((49.0,), 3, 4)
    (1, 0, 3)
    """
    at_once, whole = _digits(num_levels), list(map(int, levels))
    parts = (whole[first : first + at_once] for first in range(0, len(whole), at_once))
    return tuple(float(sum(level * num_levels**place for place, level in enumerate(part))) for part in parts)


def unpacked_phases(numbers: Sequence[float], num_elements: int, num_levels: int) -> tuple[int, ...]:
    """Return the level of each element from :func:`packed_phases`."""
    at_once = _digits(num_levels)
    return tuple(
        int(numbers[element // at_once]) // num_levels ** (element % at_once) % num_levels
        for element in range(num_elements)
    )


def _digits(num_levels: int) -> int:
    """Return how many digits to a base a float64 holds."""
    return next(count for count in range(52, 0, -1) if num_levels**count <= 2**53)


def local_steps_up_to(most: int) -> Knob:
    """Return the knob of how many of a round's mini-batches each client takes."""
    return Knob("local_steps", "", 1.0, float(most), True, "value", is_whole=True)


@dataclass(frozen=True)
class Setting:
    """What a decision sets: all that the stages of a round depend on.

    Attributes
    ----------
    cut, lora_rank
        Blocks kept on the clients; rank of every adapter.
    knobs
        Values of declared knobs, by name.
    """

    cut: Cut
    lora_rank: int
    knobs: Mapping[str, Value] = field(default_factory=dict)

    def cuts(self, num_clients: int) -> tuple[int, ...]:
        """Return the blocks kept on each client."""
        return (self.cut,) * num_clients if isinstance(self.cut, int) else self.cut

    def of(self, name: str, client: int, default: float) -> float:
        """Return a client's value of a knob."""
        value = self.knobs.get(name, default)
        return value[client] if isinstance(value, tuple) else value

    def takes_part(self, client: int) -> bool:
        """Return whether a client takes part in the round, as far as that is decided."""
        return self.of(PARTICIPATION.name, client, 1.0) > 0.0
