"""A grant: the subchannels of one client on one link, the power on each, and how wide they were made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cosim.units import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Grant:
    """What one client may use of one link.

    Attributes
    ----------
    subchannels
        Subchannels granted, ascending, shape (num_owned,).
    tx_power_w
        Transmit power on each, W, shape (num_owned,).
    bandwidths_hz
        Width of each, Hz, shape (num_owned,), where the link's band was split
        into one channel per client, of any width; None where the subchannels
        are as wide as the link makes them. A part of the band takes the number of a
        subchannel, but is spread over the whole band: it sees the mean of the
        client's gains on the link.
    spectral_efficiency_bit_per_s_per_hz
        At which it sends over a medium of fixed rates, where a decision says so.
    """

    subchannels: Ints
    tx_power_w: Floats
    bandwidths_hz: Floats | None = None
    spectral_efficiency_bit_per_s_per_hz: float | None = None

    @cached_property
    def total_tx_power_w(self) -> float:
        """Power over all subchannels, W."""
        return float(self.tx_power_w.sum())

    @cached_property
    def numbers(self) -> frozenset[int]:
        """Which subchannels, as a set."""
        return frozenset(self.subchannels.tolist())

    def width_hz(self, bandwidths_hz: Floats) -> float:
        """Return how wide it is where subchannels have these widths, Hz."""
        own = bandwidths_hz[self.subchannels] if self.bandwidths_hz is None else self.bandwidths_hz
        return float(own.sum())

    def equals(self, other: "Grant") -> bool:
        """Return whether two grants are the same in every number."""
        if (self.bandwidths_hz is None) != (other.bandwidths_hz is None):
            return False
        if self.spectral_efficiency_bit_per_s_per_hz != other.spectral_efficiency_bit_per_s_per_hz:
            return False
        pairs = [(self.subchannels, other.subchannels), (self.tx_power_w, other.tx_power_w)]
        if self.bandwidths_hz is not None and other.bandwidths_hz is not None:
            pairs.append((self.bandwidths_hz, other.bandwidths_hz))
        return all(np.array_equal(one, another) for one, another in pairs)

    def some(self, chosen: Bools) -> "Grant":
        """Return a grant of some of its subchannels, shape (num_owned,)."""
        widths = None if self.bandwidths_hz is None else self.bandwidths_hz[chosen]
        return replace(
            self,
            subchannels=self.subchannels[chosen],
            tx_power_w=self.tx_power_w[chosen],
            bandwidths_hz=widths,
        )

    @classmethod
    def union(cls, grants: "Sequence[Grant]") -> "Grant":
        """Return what one sender may use that has all of these grants.

        Grants that share no subchannel keep their powers; where some do, they are not
        in force at once, and the largest total is spread evenly over all subchannels.
        """
        numbers = np.concatenate([one.subchannels for one in grants])
        every = np.unique(numbers)
        if len(every) < len(numbers):
            return cls.spread(every, max(one.total_tx_power_w for one in grants))
        order = np.argsort(numbers)
        widths = [one.bandwidths_hz for one in grants if one.bandwidths_hz is not None]
        return cls(
            numbers[order],
            np.concatenate([one.tx_power_w for one in grants])[order],
            np.concatenate(widths)[order] if len(widths) == len(grants) else None,
        )

    @classmethod
    def spread(cls, subchannels: Ints, total_tx_power_w: float) -> "Grant":
        """Return a grant with the power spread evenly over the subchannels."""
        share = total_tx_power_w / max(len(subchannels), 1)
        return cls(np.sort(subchannels), np.full(len(subchannels), share))


def overlap(each: Iterable[Ints]) -> bool:
    """Return whether any two of these have a number in common, or one has it twice."""
    seen = set[int]()
    for numbers in each:
        some = numbers.tolist()
        before = len(seen)
        seen.update(some)
        if len(seen) < before + len(some):
            return True
    return False
