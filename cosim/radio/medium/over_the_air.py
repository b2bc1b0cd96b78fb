"""A medium that adds: what clients send at once arrives as one weighted sum, with noise."""

from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.kernel.clock import Clock
from cosim.parts import LONGEST_S, OfPlane, OneOf, Plane
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.csi import Csi
from cosim.radio.csi.perfect import Perfect
from cosim.radio.fading import Fading
from cosim.radio.knowledge import known_amplitudes
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.radio.medium.delivery import SCALAR_BITS, Payload, Signalling
from cosim.radio.medium.sums import Grid, Superposition
from cosim.radio.medium.superposing import Superposing
from cosim.radio.precoding import Precoding, Senders, Unit, share_above
from cosim.radio.precoding.zero_forcing import ZeroForcing
from cosim.radio.rate import RateModel
from cosim.record.grants import GrantLog
from cosim.rng import stream
from cosim.units import NS_PER_S, Floats, Ints, db_to_linear, seconds_to_ns

PERFECT = Perfect()
_LEAST_SHARE = 1e-3
"""Clients that send less often than this are taken to be silenced by a mistake."""


class OverTheAir(Medium):
    """Uplinks whose scheme takes sums carry the sum of all senders; all other links carry bits, as ``fluid``.

    All senders use all subcarriers of the link at once, from the first symbol edge
    after the last of them is ready, so that the airtime does not depend on how many
    they are. With which amplitude each sends, and who is silent, is the precoding's;
    it is asked at the start, with the gain of every block and subchannel that the
    transmission crosses. Each symbol meets the block it begins in; a change of the
    channel by an event under way leaves it as it began. Numbers are laid on the
    elements in a random order, which both ends know, so that each client's power is
    spread evenly. A sum that one of its senders leaves in the middle is lost and begins again, pilots
    and all, when all are there.

    A client whose values are larger than ``max_rms`` scales them down. Powers, and so
    noise and weights, are worked out for values that large. What is radiated is less
    for smaller values: that is the energy charged, and what a run without values
    charges is the most it can be.

    Attributes
    ----------
    precoding
        How each client sends.
    truncation_db, truncation
        A client is silent where the harmonic mean of its gains, which is what the power
        of inverting them follows, is so far from its gain before fading: for the whole
        ``transmission``, for each ``symbol`` by itself, or for each ``subchannel`` of it.
    mapping
        ``complex``: two numbers on each subcarrier and symbol, in phase and in
        quadrature. ``real``: one, in phase, at all the power: twice the airtime and
        half the noise power.
    subcarrier_spacing_hz, cyclic_prefix_s
        A symbol lasts one over the spacing, and its prefix. A subchannel has as many
        subcarriers as fit into it.
    max_rms
        Root mean square of the values above which a client scales them down.
    values
        ``clipped`` at ``max_rms``. ``standardised``: each sender reports mean and variance of
        its values, and all send them less the mean of all and over the largest deviation from it,
        so that nothing is clipped and the loudest radiates all it may; two scalars each way.
    channel_knowledge
        ``free``, or ``charged``: pilots go before a sum, an element in each subchannel, of every
        sender where the base station must know all channels, else one of the base station by which
        each learns its own (uplink and downlink are taken to be reciprocal); so do the scalars that
        a precoding needs of all channels, one for each unit of ``truncation`` in a block. What of
        the channel changes within the sum is known in any case. Where ``radio.csi`` says that a
        link is not known perfectly, pilots and reports are its own, and all that is known is
        what it makes of the gains as the sum begins: what arrives has the wrong amplitude and phase.
    timing_error_s, frequency_error_hz
        Standard deviations of how far each sender's timing and carrier frequency are off
        in each transmission, Gaussian: its phase turns with the subcarriers and with the
        symbols, from none in the middle of the band at the beginning. What that lets
        leak between symbols and subcarriers is left out. 0: perfectly synchronised.

    Source
    ------
    G. Zhu, Y. Wang and K. Huang, "Broadband analog aggregation for low-latency
    federated edge learning", IEEE Trans. Wireless Commun. 19(1), 2020; precodings
    name their own. Airtime and noise are derived (method cards 0 and 1).
    """

    kind: Literal["over_the_air"] = "over_the_air"
    plane: ClassVar[Plane] = "value"
    precoding: Annotated[Precoding, OneOf(Precoding)] = ZeroForcing.default()
    mapping: Literal["complex", "real"] = "complex"
    subcarrier_spacing_hz: float = Field(default=15e3, gt=0.0)
    cyclic_prefix_s: Annotated[float, OfPlane("time")] = Field(default=4.6875e-6, ge=0.0, le=LONGEST_S)
    max_rms: float = Field(default=0.01, gt=0.0)
    values: Literal["clipped", "standardised"] = "clipped"
    channel_knowledge: Annotated[Literal["free", "charged"], OfPlane("time")] = "free"
    truncation_db: float = Field(default=-10.0, ge=-400.0, le=0.0)
    truncation: Unit = "transmission"
    timing_error_s: float = Field(default=0.0, ge=0.0, le=LONGEST_S)
    frequency_error_hz: float = Field(default=0.0, ge=0.0)
    sums_any: ClassVar[bool] = True
    lets_leave: ClassVar[bool] = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"precoding": {"kind": "truncated_inversion"}, "mapping": "real", "truncation": "subchannel"},
        {"values": "standardised", "channel_knowledge": "charged"},
        {"precoding": {"kind": "full_power"}, "timing_error_s": 1e-6, "frequency_error_hz": 50.0},
    )

    @model_validator(mode="after")
    def _errors_are_residual(self) -> Self:
        if 3.0 * self.timing_error_s > self.cyclic_prefix_s:
            raise ValueError(
                f"timing_error_s {self.timing_error_s:g} does not fit into cyclic_prefix_s "
                f"{self.cyclic_prefix_s:g} three times; give at most {self.cyclic_prefix_s / 3.0:g}"
            )
        if self.frequency_error_hz > 0.02 * self.subcarrier_spacing_hz:
            raise ValueError(
                f"frequency_error_hz {self.frequency_error_hz:g} is more than 2 % of subcarrier_spacing_hz "
                f"{self.subcarrier_spacing_hz:g}, and subcarriers would leak into each other; give at most "
                f"{0.02 * self.subcarrier_spacing_hz:g}"
            )
        return self

    def rung(self, link: Link, rate: RateModel) -> str:
        """Return that amplitudes are summed, or the rate model of a link that carries bits alone."""
        return "sums of amplitudes" if self.sums(link) else super().rung(link, rate)

    def sums(self, link: Link) -> bool:
        """Return whether it is an uplink whose scheme takes sums."""
        return link.is_uplink and link.takes_sums

    @property
    def is_synchronised(self) -> bool:
        """Whether no phase is off."""
        return self.timing_error_s == self.frequency_error_hz == 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What energy is charged, and what is taken to be perfect."""
        told = [
            "radio.medium: an upload over the air is charged what its values radiate; a run without values "
            "charges "
            + (
                f"values as large as max_rms {self.max_rms:g}, the most there can be."
                if self.values == "clipped"
                else "all the power of every sender, which only the loudest radiates."
            )
        ]
        if self.channel_knowledge == "free":
            known = "all channels" if self.precoding.needs_each_channel else "each sender's own channel"
            told.append(
                f"radio.medium: what {self.precoding.kind!r} knows of {known} is free of charge, unless "
                'radio.csi says otherwise; take channel_knowledge = "charged" for the pilots it takes.'
            )
        if self.is_synchronised:
            return *told, "radio.medium: senders over the air are perfectly synchronised."
        return *told, (
            f"radio.medium: senders over the air are off by {self.timing_error_s:g} s and "
            f"{self.frequency_error_hz:g} Hz (standard deviations), as a phase; leakage between symbols and "
            "subcarriers is left out."
        )

    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> Superposing:
        """Return links that carry sums, and others whose transfers drain."""
        return Superposing(clock, channel, access, log, links, self)

    @property
    def symbol_ns(self) -> int:
        """How long a symbol lasts with its prefix, ns."""
        return max(1, seconds_to_ns(1.0 / self.subcarrier_spacing_hz + self.cyclic_prefix_s))

    @property
    def numbers_per_element(self) -> int:
        """How many numbers a subcarrier carries in a symbol."""
        return 2 if self.mapping == "complex" else 1

    def num_subcarriers(self, bandwidths_hz: Floats) -> Ints:
        """Return how many subcarriers fit into each subchannel, shape (num_subchannels,)."""
        # a width that is a multiple of the spacing but for rounding holds that many
        return np.floor(bandwidths_hz / self.subcarrier_spacing_hz * (1.0 + 1e-12)).astype(np.int64)

    def num_symbols(self, bandwidths_hz: Floats, num_values: int) -> int:
        """Return how many symbols a sum of so many numbers takes."""
        return ceil(num_values / (self.numbers_per_element * int(self.num_subcarriers(bandwidths_hz).sum())))

    def misfit(self, link: Link, bandwidths_hz: Floats) -> str | None:
        """Return that no subcarrier fits into the subchannels, where none does."""
        if not self.sums(link) or self.num_subcarriers(bandwidths_hz).sum():
            return None
        return (
            f"no subcarrier of {self.subcarrier_spacing_hz:g} Hz fits into a subchannel of {link.name}, "
            f"{bandwidths_hz.max():g} Hz wide; make subcarrier_spacing_hz smaller, or the subchannels wider."
        )

    def silences(self, link: Link, fading: Fading, num_subchannels: int) -> str | None:
        """Return that the threshold silences everybody, where gains are hardly ever above it."""
        level = np.array([db_to_linear(self.truncation_db) * (1.0 - 1e-12)])
        share = float(share_above(fading, self.truncation, 1, num_subchannels)(level)[0])
        if not self.sums(link) or not self.precoding.truncates or share >= _LEAST_SHARE:
            return None
        return (
            f"truncation_db {self.truncation_db:g} silences everybody: under the fading {fading.kind!r} the "
            f"gains of a client on {link.name} reach it in {share:.2%} of all cases; lower it"
            + ("." if self.truncation == "subchannel" else ', or take truncation = "subchannel".')
        )

    def signalling(self, link: Link, num_subchannels: int) -> Signalling:
        """Return the scalars of standardised values, and those of a precoding that must know all channels."""
        if not self.sums(link):
            return Signalling()
        units = num_subchannels if self.truncation == "subchannel" else 1
        knowledge = units * self.precoding.num_scalars if self.channel_knowledge == "charged" else 0
        bits = SCALAR_BITS * (knowledge + 2 * (self.values == "standardised"))
        return Signalling(bits, bits, self.values == "standardised")

    def pilots_ns(self, bandwidths_hz: Floats, num_senders: int, csi: Csi = PERFECT) -> int:
        """Return how long pilots take before a sum: side by side in each subchannel, one a subcarrier.

        Where what is known is not perfect, its own pilots and reports, one sender after the other.
        """
        if not csi.is_perfect:
            num_pilots = num_senders if self.precoding.needs_each_channel else 1
            sounded_ns = num_pilots * csi.pilots_ns + num_senders * csi.report_ns(len(bandwidths_hz))
            return -(-sounded_ns // self.symbol_ns) * self.symbol_ns
        if self.channel_knowledge == "free":
            return 0
        subcarriers = self.num_subcarriers(bandwidths_hz)
        num_pilots = num_senders if self.precoding.needs_each_channel else 1
        return ceil(num_pilots / int(subcarriers[subcarriers > 0].min())) * self.symbol_ns

    def pilot_s(self, bandwidths_hz: Floats, csi: Csi = PERFECT) -> float:
        """Return for how long a sender radiates all its power on pilots, s: its share of the elements."""
        if not csi.is_perfect:
            own_ns = csi.pilots_ns if self.precoding.needs_each_channel else 0
            return (own_ns + csi.report_ns(len(bandwidths_hz))) / NS_PER_S
        if self.channel_knowledge == "free" or not self.precoding.needs_each_channel:
            return 0.0
        subcarriers = self.num_subcarriers(bandwidths_hz)
        return float((subcarriers > 0).sum() / subcarriers.sum()) * self.symbol_ns / NS_PER_S

    def summed_ns(self, bandwidths_hz: Floats, num_values: int, num_senders: int, csi: Csi = PERFECT) -> int:
        """Return how long a sum of so many numbers takes with the pilots before it, ns."""
        summed_ns = self.num_symbols(bandwidths_hz, num_values) * self.symbol_ns
        return self.pilots_ns(bandwidths_hz, num_senders, csi) + summed_ns

    def superposition(
        self,
        channel: Channel,
        link: str,
        start_ns: int,
        payloads: Mapping[int, Payload],
        max_tx_power_w: Mapping[int, float],
        number: int = 0,
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
        number
            Of the transmission on its link, from 0.
        """
        given_rms = next(iter(payloads.values())).max_rms
        widths_hz, clients = channel.bandwidths_hz(link), list(payloads)
        num_values = max(one.num_values for one in payloads.values())
        num_symbols, subcarriers = self.num_symbols(widths_hz, num_values), self.num_subcarriers(widths_hz)
        grid = Grid.of(channel, start_ns, self.symbol_ns, num_symbols, subcarriers)
        gains, known, phases = grid.gains(channel, link, clients), None, None
        if not channel.radio.csi_of(link).is_perfect:
            powers_w = np.array([max_tx_power_w.get(one, 0.0) for one in range(channel.num_clients)])
            seen = known_amplitudes(channel, link, start_ns, powers_w)[clients][:, np.newaxis]
            known = np.broadcast_to(np.maximum(np.abs(seen) ** 2, 1e-300), gains.shape)
            phases = np.broadcast_to(-np.angle(seen) / (2.0 * np.pi), gains.shape)
        precoded = self.precoding.precode(
            Senders(
                gains=gains if known is None else known,
                mean_gains=channel.mean_gains_at(link, start_ns)[clients],
                shares=grid.shares,
                weights=np.array([one.weight for one in payloads.values()]),
                tx_power_w=np.array([max_tx_power_w[one] for one in clients]) / int(subcarriers.sum()),
                fading=channel.radio.fading,
                unit=self.truncation,
                threshold=db_to_linear(self.truncation_db),
            )
        )
        return Superposition.of(
            clients,
            precoded,
            gains,
            noise_w=grid.noise_psd(channel, link, clients) * self.subcarrier_spacing_hz,
            grid=grid,
            numbers_per_element=self.numbers_per_element,
            num_values=num_values,
            max_rms=self.max_rms if given_rms is None else given_rms,
            stream=("superposition", link, number),
            turns=self._turns(channel.air_seed, link, clients, number),
            known=known,
            phases=phases,
        )

    def _turns(
        self, seed: int, link: str, clients: Sequence[int], number: int
    ) -> tuple[tuple[float, float], ...]:
        """Return by how much each sender's phase turns with each symbol and each subcarrier."""
        if self.is_synchronised:
            return ()
        root = stream(seed, "radio", "synchronisation", link)
        drawn = [root.child(client, number).generator().standard_normal(2).tolist() for client in clients]
        a_symbol = self.frequency_error_hz * self.symbol_ns / NS_PER_S
        a_subcarrier = self.timing_error_s * self.subcarrier_spacing_hz
        return tuple((a_symbol * frequency, -a_subcarrier * timing) for frequency, timing in drawn)
