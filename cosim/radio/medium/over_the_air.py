"""A medium that adds: what several clients send at once arrives as a weighted, noisy sum."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.kernel.clock import Clock, Steps
from cosim.kernel.queue import Queue
from cosim.parts import LONGEST_S
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Delivery, Distortion, Medium, Network, Payload
from cosim.radio.medium.draining import Draining
from cosim.record.log import GrantLog
from cosim.units import NS_PER_S, Floats, Ints, db_to_linear, seconds_to_ns


@dataclass(frozen=True)
class Superposition:
    """How clients that send at once do so.

    Attributes
    ----------
    tx_power_w
        What each client that sends radiates over the whole band, W, if its values are as
        large as they may be; the others are silent.
    weights
        Of each client that sends, adding up to one.
    noise_std
        Standard deviation of the noise on each number of the sum; infinite if all are silent.
    """

    tx_power_w: Mapping[int, float]
    weights: Mapping[int, float]
    noise_std: float


class OverTheAir(Medium):
    """Uplinks whose scheme takes sums carry the sum of all senders; all other links carry bits, as ``fluid``.

    All senders use all subcarriers of the link at once, from the first symbol edge
    after the last of them is ready, two numbers on each subcarrier and symbol (in
    phase and quadrature), so that the airtime does not depend on how many they are.
    Each inverts its own channel, so that its values arrive with an amplitude common
    to all times its weight, and is silent where that would take too much power
    (``truncation_db``). The common amplitude is the largest that keeps every
    sender within the power it was granted, for values as large as ``max_rms``, and
    so the farthest of them sets the noise. The base station knows who is silent,
    and divides by the sum of the others' weights.

    Amplitude and silence are decided at the start from the blocks the transmission
    crosses, each symbol by the block it begins in; a change of the channel under way
    leaves them as they are. Senders are perfectly synchronised, and values are
    taken to be spread evenly over the subcarriers. Energy is that of values as
    large as ``max_rms``: smaller ones radiate less than is charged.

    Attributes
    ----------
    subcarrier_spacing_hz, cyclic_prefix_s
        A symbol lasts one over the spacing, and its prefix. A subchannel has as many
        subcarriers as fit into it.
    max_rms
        Root mean square of the values above which a client scales them down.
    truncation_db
        A client is silent if the harmonic mean of its gains, which is what the power
        of inverting them follows, is so far from its gain before fading.

    Source
    ------
    G. Zhu, Y. Wang and K. Huang, "Broadband analog aggregation for low-latency
    federated edge learning", IEEE Trans. Wireless Commun. 19(1), 2020: truncated
    channel inversion. Theirs truncates each subcarrier by itself; here it is the
    client that sends or does not (ours, so that each has one weight).
    """

    kind: Literal["over_the_air"] = "over_the_air"
    subcarrier_spacing_hz: float = Field(default=15e3, gt=0.0)
    cyclic_prefix_s: float = Field(default=4.6875e-6, ge=0.0, le=LONGEST_S)
    max_rms: float = Field(default=0.01, gt=0.0)
    truncation_db: float = Field(default=-10.0, ge=-400.0, le=0.0)
    sums_any: ClassVar[bool] = True

    def sums(self, link: Link) -> bool:
        """Return whether it is an uplink whose scheme takes sums."""
        return link.is_uplink and link.takes_sums

    @property
    def notes(self) -> tuple[str, ...]:
        """What energy is charged."""
        return (
            "radio.medium: an upload over the air is charged the energy of values as large as max_rms "
            f"{self.max_rms:g}; smaller ones radiate less.",
        )

    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> "Superposing":
        """Return links that carry sums, and others whose transfers drain."""
        return Superposing(clock, channel, access, log, links, self)

    @property
    def symbol_ns(self) -> int:
        """How long a symbol lasts with its prefix, ns."""
        return max(1, seconds_to_ns(1.0 / self.subcarrier_spacing_hz + self.cyclic_prefix_s))

    def num_subcarriers(self, bandwidths_hz: Floats) -> Ints:
        """Return how many subcarriers fit into each subchannel, shape (num_subchannels,)."""
        # a width that is a multiple of the spacing but for rounding holds that many
        return np.floor(bandwidths_hz / self.subcarrier_spacing_hz * (1.0 + 1e-12)).astype(np.int64)

    def num_symbols(self, bandwidths_hz: Floats, num_values: int) -> int:
        """Return how many symbols a sum of so many numbers takes."""
        return ceil(num_values / (2 * int(self.num_subcarriers(bandwidths_hz).sum())))

    def misfit(self, link: Link, bandwidths_hz: Floats) -> str | None:
        """Return that no subcarrier fits into the subchannels, where none does."""
        if not self.sums(link) or self.num_subcarriers(bandwidths_hz).sum():
            return None
        return (
            f"no subcarrier of {self.subcarrier_spacing_hz:g} Hz fits into a subchannel of {link.name}, "
            f"{bandwidths_hz.max():g} Hz wide; make subcarrier_spacing_hz smaller, or the subchannels wider."
        )

    def summed_ns(self, bandwidths_hz: Floats, num_values: int) -> int:
        """Return how long a sum of so many numbers takes, ns."""
        return self.num_symbols(bandwidths_hz, num_values) * self.symbol_ns

    def superposition(
        self,
        channel: Channel,
        link: str,
        start_ns: int,
        payloads: Mapping[int, Payload],
        max_tx_power_w: Mapping[int, float],
    ) -> Superposition:
        """Return how clients send at once.

        Parameters
        ----------
        channel, link, start_ns
            Over which channel and link; from when on, ns.
        payloads
            What each client that is ready has to send.
        max_tx_power_w
            What each may radiate over the whole band, W.
        """
        num_symbols = self.num_symbols(
            channel.bandwidths_hz(link), max(one.num_values for one in payloads.values())
        )
        first, shares = self._shares(channel, link, start_ns, num_symbols)
        before_fading = channel.large_scale_at(start_ns).mean_gains[0]
        threshold = db_to_linear(self.truncation_db) * (1.0 - 1e-12)  # equal but for rounding is not below
        gains = {
            client: _harmonic_mean(channel.gains(link, client, first, len(shares)), shares)
            for client in payloads
        }
        active = [
            client
            for client, gain in gains.items()
            if gain >= threshold * before_fading[client] and max_tx_power_w[client] > 0.0
        ]
        total = sum(payloads[client].weight for client in active)
        if not total > 0.0:
            return Superposition({}, {}, float("inf"))
        weights = {client: payloads[client].weight / total for client in active}
        num_subcarriers = int(self.num_subcarriers(channel.bandwidths_hz(link)).sum())
        # Received power of a whole sum on one subcarrier, W: client k radiates w_k^2 of it over its gain.
        common_w = min(
            max_tx_power_w[client] * gains[client] / (num_subcarriers * weight**2)
            for client, weight in weights.items()
            if weight > 0.0
        )
        noise_w = self._noise_psd(channel, link, active, first, shares) * self.subcarrier_spacing_hz
        return Superposition(
            tx_power_w={
                client: common_w * weight**2 * num_subcarriers / gains[client]
                for client, weight in weights.items()
            },
            weights=weights,
            noise_std=self.max_rms * sqrt(noise_w / common_w),
        )

    def _shares(self, channel: Channel, link: str, start_ns: int, num_symbols: int) -> tuple[int, Floats]:
        """Return the first block crossed, and the share of the numbers in each block and subchannel."""
        first = channel.block_at(start_ns)
        begins_ns = start_ns + self.symbol_ns * np.arange(num_symbols)
        of_symbol = np.zeros(num_symbols, dtype=np.int64)
        if channel.block_ns is not None:
            of_symbol = begins_ns // channel.block_ns - first
        subcarriers = self.num_subcarriers(channel.bandwidths_hz(link))
        shares = np.bincount(of_symbol)[:, np.newaxis] * subcarriers  # (num_blocks, num_subchannels)
        return first, shares / shares.sum()

    def _noise_psd(
        self, channel: Channel, link: str, clients: Collection[int], first: int, shares: Floats
    ) -> float:
        """Return noise and interference at the base station, W/Hz, the mean over what is used."""
        every = np.arange(shares.shape[1])
        found = [channel.noise_psd(link, client, every, first, len(shares), False) for client in clients]
        return float(np.mean([(np.broadcast_to(one, shares.shape) * shares).sum() for one in found]))


def _harmonic_mean(gains: Floats, shares: Floats) -> float:
    """Return the gain whose inverse is the mean inverse of these gains; zero if any that is used is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(1.0 / np.where(shares > 0.0, shares / gains, 0.0).sum())


class Superposing(Network):
    """Links that carry sums, and beside them links whose transfers drain."""

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        access: Access,
        log: GrantLog,
        links: Collection[Link],
        medium: OverTheAir,
    ) -> None:
        self._clock, self._channel, self._medium = clock, channel, medium
        self._digital = Draining(clock, channel, access, log, links, medium)
        summed = [link.name for link in links if medium.sums(link)]
        self._queues = {name: Queue(clock, 1, name) for name in summed}
        self._max_tx_power_w: dict[str, Mapping[int, float]] = {name: {} for name in summed}
        self._num_sent = dict.fromkeys(summed, 0)

    def grant(self, link: str, granted: Mapping[int, Grant], round_: int) -> None:
        """Let a decision take effect now; of a link that carries sums only the powers count."""
        if link in self._queues:
            self._max_tx_power_w[link] = {client: grant.total_tx_power_w for client, grant in granted.items()}
        else:
            self._digital.grant(link, granted, round_)

    def change(self, channel: Channel, access: Access) -> None:
        """Let another channel take over now; a sum in flight stays as it began."""
        self._channel = channel
        self._digital.change(channel, access)

    def send(self, link: str, payloads: Mapping[int, Payload]) -> Steps:
        """Send to or from one client, or from several at once; returns the :class:`Delivery`."""
        if link not in self._queues:
            return (yield from self._digital.send(link, payloads))
        clock, medium = self._clock, self._medium
        asked_ns, turn = clock.now, self._queues[link].enter()
        after_span = None if turn is None else (yield turn)
        yield clock.timeout(-clock.now % medium.symbol_ns)
        start_ns, number = clock.now, self._num_sent[link]
        self._num_sent[link] = number + 1
        sent = medium.superposition(self._channel, link, start_ns, payloads, self._max_tx_power_w[link])
        duration_ns = medium.summed_ns(
            self._channel.bandwidths_hz(link), max(one.num_values for one in payloads.values())
        )
        yield clock.timeout(duration_ns)
        return Delivery(
            asked_ns,
            start_ns,
            clock.now,
            {client: sent.tx_power_w.get(client, 0.0) * duration_ns / NS_PER_S for client in payloads},
            {client: client in sent.weights for client in payloads},
            after_span,
            distortion=Distortion(
                sent.weights, sent.noise_std, medium.max_rms, ("superposition", link, number)
            ),
        )

    def leave(self, link: str, clients: Collection[int], span: int) -> None:
        """Free the air after a transmission."""
        if link in self._queues:
            self._queues[link].leave(span)
        else:
            self._digital.leave(link, clients, span)

    def too_weak(self) -> str | None:
        """Return what to say of a transfer that cannot end; a sum always does."""
        return self._digital.too_weak()
