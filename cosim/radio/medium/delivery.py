"""What is sent over a medium, and what becomes of it."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cosim.units import Floats

_NOTHING: Mapping[Any, float] = MappingProxyType({})


class Payload(NamedTuple):
    """What one client sends or is sent.

    Attributes
    ----------
    bits
        Its size.
    num_values, weight
        How many numbers it is, and their share in a sum; none where it is bits, on any medium.
    max_rms
        Largest root mean square its numbers can have, where that is known; else as the medium says.
    """

    bits: int
    num_values: int = 0
    weight: float = 1.0
    max_rms: float | None = None


SCALAR_BITS = 32
"""Of a number that is exchanged before a sum."""


class Signalling(NamedTuple):
    """What senders of a sum and the base station let each other know before it, each sender.

    Attributes
    ----------
    up_bits, down_bits
        Sent to the base station, and by it.
    is_standardised
        Whether mean and variance of what each sends are known to it then, and what all share
        in to all.
    """

    up_bits: int = 0
    down_bits: int = 0
    is_standardised: bool = False


class Uneven(NamedTuple):
    """What differs from number to number of a sum, as each meets its own block and subchannel.

    Numbers are laid on the resource elements in a random order, symbol by symbol.

    Attributes
    ----------
    numbers_per_element
        2 where an element carries one in phase and one in quadrature, 1 without the second.
    subcarriers, symbols
        Of each subchannel, and of each block.
    weights
        Of each sender, shape (num_senders, num_blocks, num_subchannels).
    noise_std
        Shape (num_blocks, num_subchannels).
    turns
        By how much a sender's phase is off, in whole turns: more with each symbol, and
        more with each subcarrier above the middle of the band; empty if synchronised.
    phases
        By how much it is off beside that, in whole turns, of the shape of ``weights``; None if it is not.
    """

    numbers_per_element: int
    subcarriers: tuple[int, ...]
    symbols: tuple[int, ...]
    weights: Floats
    noise_std: Floats
    turns: tuple[tuple[float, float], ...] = ()
    phases: Floats | None = None

    def params(self) -> dict[str, Any]:
        """Return it as plain numbers and lists."""
        phases = {} if self.phases is None else {"phases": self.phases.tolist()}
        return phases | {
            "numbers_per_element": self.numbers_per_element,
            "subcarriers": list(self.subcarriers),
            "symbols": list(self.symbols),
            "weights": self.weights.tolist(),
            "noise_std": self.noise_std.tolist(),
            "turns": [list(one) for one in self.turns],
        }


class Distortion(NamedTuple):
    """What the air made of the numbers that were sent at once: plain numbers, applied elsewhere.

    What arrives is the weighted sum of the senders' values, each scaled down to
    ``max_rms`` where its root mean square is above it, plus independent Gaussian
    noise on every number.

    Attributes
    ----------
    weights
        Of each client whose values are in the sum, in the mean over the numbers.
    noise_std
        Standard deviation of the noise on each real number of the sum, its root mean
        square over the numbers.
    max_rms
        Largest root mean square that a client's values are sent with.
    stream
        Names of the random stream the noise is drawn from.
    filled
        Share of the resource elements that carry numbers: the last symbol may not be full.
    uneven
        What differs between the numbers; None where all meet the same.
    """

    weights: Mapping[int, float]
    noise_std: float
    max_rms: float
    stream: tuple[str | int, ...]
    filled: float = 1.0
    uneven: Uneven | None = None


class Delivery(NamedTuple):
    """What became of one transmission.

    Attributes
    ----------
    asked_ns, start_ns, end_ns
        When it was asked for, began and ended, ns.
    energy_j
        What was radiated for each client: by the client on an uplink, for it on a downlink.
    pilot_energy_j
        What of that went into pilots, whatever the values are.
    delivered
        For each client whether what it sent, or was sent, arrived.
    after_span
        The span that made room for it.
    resent_bits
        What was sent again beyond the payload.
    distortion
        What the air made of it; None where what arrives is what was sent.
    cut_bits
        Of one that was given up as somebody left: the bits that had been sent.
    away_ns
        For how long somebody it needs was away meanwhile.
    measures
        What else to record of it, by the names of metrics.
    """

    asked_ns: int
    start_ns: int
    end_ns: int
    energy_j: Mapping[int, float]
    delivered: Mapping[int, bool]
    after_span: int | None = None
    resent_bits: float = 0.0
    distortion: Distortion | None = None
    cut_bits: float | None = None
    away_ns: int = 0
    measures: Mapping[str, float] = _NOTHING
    pilot_energy_j: Mapping[int, float] = _NOTHING

    @classmethod
    def at_once(cls, now_ns: int, clients: Collection[int]) -> "Delivery":
        """Return what a link that takes no time does."""
        return cls(now_ns, now_ns, now_ns, dict.fromkeys(clients, 0.0), dict.fromkeys(clients, True))
