"""Schedulers: who has which subchannel in which slot."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from cosim.parts import Part, Plane
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Demand:
    """Those who have something to send in consecutive slots, in the order in which they asked.

    Attributes
    ----------
    first_slot, slot_s
        Number of the first slot, and how long one lasts, s.
    rates
        What each subchannel would carry at the power spread over the band, bit/s, shape
        (num_senders, num_slots, num_subchannels).
    granted
        Which subchannels the allocator gave to each, shape (num_senders, num_subchannels).
    missing_bits, bits
        What has not arrived yet of each payload, and its size, shape (num_senders,).
    asked_s
        When each was asked for, s, shape (num_senders,).
    mean_rates
        What each was given lately, bit/s, shape (num_senders,).
    """

    first_slot: int
    slot_s: float
    rates: Floats
    granted: Floats
    missing_bits: Floats
    bits: Floats
    asked_s: Floats
    mean_rates: Floats

    def to_one(self, sender: int) -> Ints:
        """Return owners where one has everything."""
        return np.full(self.rates.shape[1:], sender, dtype=np.int64)


class Schedule(NamedTuple):
    """Who has what.

    Attributes
    ----------
    owners
        The sender that has each subchannel, -1 for nobody, shape (num_slots, num_subchannels).
    mean_rates
        What each was given lately, after each slot, bit/s, shape (num_slots, num_senders); None where
        the scheduler does not ask.
    """

    owners: Ints
    mean_rates: Floats | None = None


class Scheduler(Part):
    """Shares out the subchannels of a link, slot by slot, among those who send.

    The answer for some slots is the beginning of the answer for more.
    """

    plane: ClassVar[Plane] = "time"
    keeps_grants: ClassVar[bool] = False
    """Whether everybody keeps to its own grant and the powers in it."""

    @abstractmethod
    def schedule(self, demand: Demand) -> Schedule:
        """Return who has which subchannel in each slot, a pure function."""
