"""The medium: what the air does with a transmission, and what of it arrives.

A :class:`Medium` is the settings, a :class:`Network` the same alive on a clock.
A new medium is one file: a part whose :meth:`Medium.open` returns a network.
Where transfers drain at a rate, :class:`~cosim.radio.medium.draining.Draining`
is that network; a medium that does something else on some links can keep one
for the others, as ``over_the_air`` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import BlockRate, ConstantRate, Rate
from cosim.kernel.presence import Presence
from cosim.kernel.slots import Slots, SlottedRate
from cosim.parts import Part, Plane
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.csi import Csi
from cosim.radio.fading import Fading
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Payload, Signalling
from cosim.radio.rate import RateModel
from cosim.record.grants import GrantLog
from cosim.units import Floats


class Network(ABC):
    """All links of one cell, alive."""

    @abstractmethod
    def grant(self, link: str, granted: Mapping[int, Grant], round_: int) -> None:
        """Let a decision take effect now; transfers in flight go on under their new grant."""

    @abstractmethod
    def change(self, channel: Channel, access: Access) -> None:
        """Let another channel take over now; :meth:`grant` must follow for every link that is sent over."""

    def follow(self, presence: Presence) -> None:
        """Let those leave and come back of whom this says so; for media that let them."""
        raise NotImplementedError(f"{type(self).__name__} lets nobody leave")

    @abstractmethod
    def send(self, link: str, payloads: Mapping[int, Payload]) -> Steps:
        """Make one transmission and return its delivery; :meth:`leave` must follow.

        Parameters
        ----------
        link
            Name of the link.
        payloads
            By client: on an uplink what each of these sends, all in one
            transmission; on a downlink the one payload that all of them receive.
        """

    def reserve(self, links: Collection[str], *, is_reserved: bool) -> None:
        """Let nobody send over these links, transfers in flight included, until they are free again."""
        raise NotImplementedError(f"{type(self).__name__} reserves no links")

    @abstractmethod
    def leave(self, link: str, clients: Collection[int], span: int) -> None:
        """Free the air after a transmission, recorded as ``span``, for those who wait."""

    @abstractmethod
    def too_weak(self) -> str | None:
        """Return what to say of the transfer of least rate, once none of those on the air can end."""


class Medium(Part):
    """What the air does with transmissions."""

    plane: ClassVar[Plane] = "time"
    sums_any: ClassVar[bool] = False
    """Whether there are links on which what clients send at once arrives as a sum."""

    lets_leave: ClassVar[bool] = False
    """Whether clients and servers may leave in the middle of a transmission."""

    drains: ClassVar[bool] = True
    """Whether what is no sum drains at the rate of a grant."""

    carries_split_bands: ClassVar[bool] = True
    """Whether grants may have channels of any width."""

    @property
    def symbol_ns(self) -> int:
        """At whole multiples of what a sum begins, ns."""
        return 1

    @property
    def slot_ns(self) -> int | None:
        """How long a slot lasts, ns; None where transfers go by no slots."""
        return None

    @property
    def uses_access(self) -> bool:
        """Whether it depends on how those who send share grants."""
        return True

    @property
    def is_closed_form(self) -> bool:
        """Whether a transfer lasts as long as its bits take at the rate that the channel allows."""
        return False

    @abstractmethod
    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> Network:
        """Return the medium alive.

        Parameters
        ----------
        clock, channel, access
            Simulated time, the channel, and how senders share grants.
        log
            Takes a row whenever a subchannel changes hands or power.
        links
            The links of the scheme.
        """

    def rung(self, link: Link, rate: RateModel) -> str:
        """Return what a rate on a link comes from, in a few words."""
        return rate.rung

    def sums(self, link: Link) -> bool:
        """Return whether what clients send over a link arrives as a sum, in one transmission of all."""
        return False

    def signalling(self, link: Link, num_subchannels: int) -> Signalling:
        """Return what is exchanged before a sum over a link."""
        return Signalling()

    def summed_ns(self, bandwidths_hz: Floats, num_values: int, num_senders: int, csi: Csi) -> int:
        """Return how long a sum of so many numbers of so many takes on a link that carries sums, ns."""
        raise NotImplementedError(f"{type(self).__name__} carries no sums")

    def misfit(self, link: Link, bandwidths_hz: Floats) -> str | None:
        """Return why a link with subchannels of these widths, Hz, cannot be sent over, with a way out."""
        return None

    def silences(self, link: Link, fading: Fading, num_subchannels: int) -> str | None:
        """Return why nobody would be heard on a link under a fading, with a way out."""
        return None

    def loses(self, link: Link) -> bool:
        """Return whether what is sent over a link may be lost."""
        return False

    @property
    def fixes_rates(self) -> bool:
        """Whether clients send at rates of their own, which a decision may set."""
        return False

    @property
    def backoff(self) -> float | None:
        """By what factor rates are chosen below the known SNR; None where nobody chooses them so."""
        return None

    @property
    def num_attempts(self) -> int:
        """How often what is lost is sent in all."""
        return 1

    @property
    def is_silent_in_outage(self) -> bool:
        """Whether a client sends nothing when the channel allows less than its rate."""
        return False

    def rates(
        self, channel: Channel, link: Link, client: int, grant: Grant, first: int, count: int
    ) -> Floats:
        """Return the rate at which a grant's bits drain in some blocks, bit/s, shape (count,).

        What the channel allows, unless a medium says otherwise.
        """
        return capacity(channel, link, client, grant, first, count)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of its results, in sentences."""
        return ()


def capacity(channel: Channel, link: Link, client: int, grant: Grant, first: int, count: int) -> Floats:
    """Return what the channel allows a grant to carry in some blocks, bit/s, shape (count,)."""
    return channel.rates(
        link.name, client, grant.subchannels, grant.tx_power_w, first, count, grant.bandwidths_hz
    )


def rate_of(medium: Medium, channel: Channel, link: Link, clients: Sequence[int], grant: Grant) -> Rate:
    """Return the rate at which a grant's bits drain to or from these clients, over time."""

    def rates(first: int, count: int) -> Floats:
        return weakest_rates(medium, channel, link, clients, grant, first, count)

    block_ns, slots = channel.block_ns, channel.radio.duplex.slots(is_uplink=link.is_uplink)
    if block_ns is None or not len(grant.subchannels):
        constant = ConstantRate(float(rates(0, 1)[0]))
        return constant if slots is None else SlottedRate(constant, slots)
    if slots is None:
        return BlockRate(block_ns, rates)
    if block_ns % slots.frame_ns == 0:  # as long a part of every block is open
        return SlottedRate(BlockRate(block_ns // slots.frame_ns * slots.open_of_frame_ns, rates), slots)

    def open_rates(first: int, count: int) -> Floats:
        return rates(first, count) * open_blocks(slots, block_ns, first, count)

    return BlockRate(block_ns, open_rates)


def open_blocks(slots: Slots, block_ns: int, first: int, count: int) -> NDArray[np.bool_]:
    """Return whether blocks that slots are whole multiples of are open, shape (count,)."""
    numbers = np.arange(first, first + count) * block_ns // slots.slot_ns % len(slots.is_open)
    return np.array(slots.is_open)[numbers]


def weakest_rates(
    medium: Medium,
    channel: Channel,
    link: Link,
    clients: Sequence[int],
    grant: Grant,
    first: int,
    count: int,
) -> Floats:
    """Return the rate that all of these clients can follow in some blocks, bit/s, shape (count,)."""
    if len(clients) == 1:
        return medium.rates(channel, link, clients[0], grant, first, count)
    each = [medium.rates(channel, link, client, grant, first, count) for client in clients]
    return np.asarray(np.min(each, axis=0))  # of shape (num_clients, count)
