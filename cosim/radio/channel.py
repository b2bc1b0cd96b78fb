"""The channel under one seed: what arrives of each client's power, on any subchannel at any time."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cosim.errors import ScenarioError
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.channel_settings import LINKS, ChannelSettings
from cosim.radio.gains import Gains
from cosim.radio.large_scale import LargeScale
from cosim.radio.large_scales import LargeScales
from cosim.radio.misfits import misfits
from cosim.radio.rate import RateModel
from cosim.radio.surface import Complexes
from cosim.radio.transport import Transport
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from cosim.radio.budget import LinkBudget


@dataclass(frozen=True, eq=False)
class Channel:
    """What the air does; a pure function of (settings, seed of the air, link, client, time).

    Both servers are reached through every base station, so path loss, shadowing
    and antenna gain are a client's own and shared by all its links, up and down.
    The links lie on different frequencies, so each fades by itself. Adding a
    client changes nothing for the others. A gain is large scale (where the client
    is, which base station serves it) times fading, as the surface changes it; to
    the noise comes the interference.

    Attributes
    ----------
    seed
        Of the run, from which allocators draw; the air has ``air_seed``.
    noise_psd_w_per_hz
        Noise at a receiver, its noise figure included, W/Hz.
    block_ns
        How long a gain holds, ns; None where it holds for the whole run.
    """

    radio: ChannelSettings
    num_clients: int
    seed: int
    noise_psd_w_per_hz: float
    block_ns: int | None
    _large_scales: LargeScales = field(repr=False)
    _gains: Gains = field(repr=False)
    _heard: Floats | None = field(default=None, repr=False)

    @classmethod
    def build(cls, radio: ChannelSettings, num_clients: int, seed: int) -> Self:
        """Return the channel these settings and this seed describe.

        Raises
        ------
        ScenarioError
            If parts do not go together or change at instants that do not fit each other,
            the placement cannot place that many clients, or one begins outside of the layout.
        ValueError
            If there is no client.
        """
        if num_clients < 1:
            raise ValueError(f"a channel needs at least one client, got {num_clients}")
        for fault in misfits(radio):
            raise ScenarioError(fault)
        air_seed = radio.air_seed(seed)
        block_ns, large_scales = shortest_block_ns(radio), LargeScales(radio, num_clients, air_seed)
        gains = Gains(radio, num_clients, air_seed, block_ns, large_scales)
        return cls(radio, num_clients, seed, radio.noise_psd_w_per_hz, block_ns, large_scales, gains)

    def under(self, phases: tuple[int, ...]) -> Self:
        """Return the channel with these phases of the surface; all else is as it was."""
        radio = self.radio.model_copy(update={"surface": self.radio.surface.under(phases)})
        gains = Gains(radio, self.num_clients, self.air_seed, self.block_ns, self._large_scales)
        return replace(self, radio=radio, _gains=gains)

    def hearing(self, psd_w_per_hz: Floats) -> Self:
        """Return the channel where rates hear so much of others on each subchannel of a link, W/Hz."""
        return replace(self, _heard=psd_w_per_hz)

    @property
    def air_seed(self) -> int:
        """What everything random of the air is drawn from."""
        return self.radio.air_seed(self.seed)

    @property
    def positions_m(self) -> Floats:
        """Where the clients begin, m, shape (num_clients, 2)."""
        return np.asarray(self.large_scale_at(0).positions_m[0])

    @property
    def distances_m(self) -> Floats:
        """How far each is from its base station at the beginning, m, shape (num_clients,)."""
        return np.asarray(self.large_scale_at(0).distances_m[0])

    @property
    def path_loss_db(self) -> Floats:
        """Path loss of each client at the beginning, dB, shape (num_clients,)."""
        return np.asarray(self.large_scale_at(0).path_loss_db[0])

    @property
    def shadowing_db(self) -> Floats:
        """Shadowing of each client at the beginning, dB, shape (num_clients,)."""
        return np.asarray(self.large_scale_at(0).shadowing_db[0])

    @property
    def mean_gains(self) -> Floats:
        """Linear power gain of each client before fading, at the beginning, shape (num_clients,)."""
        return np.asarray(self.large_scale_at(0).mean_gains[0])

    def large_scale_at(self, time_ns: int) -> LargeScale:
        """Return what holds at an instant before fading, for one instant."""
        return self._large_scales.at(time_ns)

    @cached_property
    def modelled(self) -> frozenset[str]:
        """The links on which something takes time."""
        return frozenset(link for link in LINKS if self.radio.link(link).is_modelled)

    @cached_property
    def transports(self) -> dict[str, Transport]:
        """The transport of each link where a message is not there with its last bit."""
        each = {link: self.radio.transport_of(link) for link in LINKS}
        return {link: one for link, one in each.items() if one is not None}

    def bandwidths_hz(self, link: str) -> Floats:
        """Return the width of each subchannel of a link, Hz, shape (num_subchannels,)."""
        return self._gains.widths_hz[link]

    def block_at(self, time_ns: int) -> int:
        """Return the block an instant lies in; always 0 where gains never change."""
        if time_ns < 0:
            raise ValueError(f"time starts at 0, got {time_ns} ns")
        return 0 if self.block_ns is None else time_ns // self.block_ns

    def gains(self, link: str, client: int, first_block: int, count: int) -> Floats:
        """Return a client's linear power gains over some blocks, large scale times fading.

        Parameters
        ----------
        link, client
            Which direction and server; which client, from 0.
        first_block, count
            First block, at least 0, and number of blocks, at least 1.

        Returns
        -------
        ndarray
            Shape (count, num_subchannels), read-only or a copy. Every row is the
            same where gains never change.

        Raises
        ------
        ValueError
            If there is no such client, or no such block.
        """
        return self._gains.rows(link, client, first_block, count).gains

    def gain_at(self, link: str, time_ns: int) -> Floats:
        """Return every client's linear power gains at an instant, shape (num_clients, num_subchannels)."""
        block, trace = self.block_at(time_ns), self.radio.trace
        if trace is not None and trace.ends_ns is not None and time_ns >= trace.ends_ns:
            raise ScenarioError(f"{trace.why_over}")
        return np.concatenate([self.gains(link, client, block, 1) for client in range(self.num_clients)])

    def mean_gains_at(self, link: str, time_ns: int) -> Floats:
        """Return every client's gain before fading at an instant, shape (num_clients,).

        A trace of whole gains knows no other than the one it gives.
        """
        if self.radio.trace is not None and self.radio.trace.gives == "gains":
            return np.asarray(self.gain_at(link, time_ns)[:, 0])
        return np.asarray(self.large_scale_at(time_ns).mean_gains[0])

    def gain_over_noise_alone_at(self, link: str, time_ns: int) -> Floats:
        """Return the gains that give the same SNR without any interference, shaped as by :meth:`gain_at`."""
        block, gains = self.block_at(time_ns), self.gain_at(link, time_ns)
        for client in range(self.num_clients):
            noise = self._gains.rows(link, client, block, 1).noise_psd
            if noise is not None:
                gains[client] *= self.noise_psd_w_per_hz / noise[0]
        return gains

    def surface_amplitudes(self, link: str, time_ns: int) -> tuple[Complexes, Complexes]:
        """Return the amplitudes of every client's direct path, and of its paths over each element.

        At phase zero, of shapes (num_clients, num_subchannels) and (num_clients, num_elements).
        """
        block = self.block_at(time_ns)
        begins_ns = np.array([block * (self.block_ns or 0)])
        each = [
            self.radio.surface.amplitudes(
                self._gains.path(link, client, begins_ns), self._gains.rows(link, client, block, 1).direct
            )
            for client in range(self.num_clients)
        ]
        direct, reflected = zip(*each, strict=True)
        return np.concatenate(direct), np.concatenate(reflected)

    def rates(
        self,
        link: str,
        client: int,
        subchannels: Ints,
        tx_power_w: Floats,
        first_block: int,
        count: int,
        bandwidths_hz: Floats | None = None,
    ) -> Floats:
        """Return the rate of a grant over some blocks, bit/s, shape (count,).

        Parameters
        ----------
        link, client
            Which direction and server; which client, from 0.
        subchannels
            The subchannels granted, shape (num_owned,).
        tx_power_w
            Power sent on each of them, W, shape (num_owned,).
        first_block, count
            First block, at least 0, and number of blocks, at least 1.
        bandwidths_hz
            Width of each, Hz, shape (num_owned,), where the band was split otherwise;
            None for the link's own.
        """
        bandwidth_hz = self.bandwidths_hz(link)[subchannels] if bandwidths_hz is None else bandwidths_hz
        is_split = bandwidths_hz is not None
        if self.radio.trace is not None and self.radio.trace.gives == "rates":
            values = self._traced_rates(link, client, first_block, count)
            return values if len(subchannels) else np.zeros(count)
        gains, _, noises = self._gains.rows(link, client, first_block, count)
        snr = (tx_power_w / bandwidth_hz) * _of_channels(gains, subchannels, is_split)
        noise = self.noise_psd_w_per_hz if noises is None else _of_channels(noises, subchannels, is_split)
        snr /= (
            noise
            if self._heard is None
            else noise + _of_channels(self._heard[np.newaxis], subchannels, is_split)
        )
        rates, share = self.radio.rate.rates(snr, bandwidth_hz), self.radio.surface.data_share
        return rates if share == 1.0 else share * rates

    def rate_model(self, link: str, client: int, time_ns: int) -> RateModel:
        """Return what makes a rate of an SNR for a client at an instant: as set, or as a trace has it."""
        if self.radio.trace is None or self.radio.trace.gives != "rates":
            return self.radio.rate
        (rate,) = self._traced_rates(link, client, self.block_at(time_ns), 1)
        from cosim.radio.rate.constant_bandwidth import ConstantBandwidth

        return ConstantBandwidth.model_construct(rate_bit_per_s=float(rate))

    def _traced_rates(self, link: str, client: int, first_block: int, count: int) -> Floats:
        """Return the rates of a trace over some blocks, bit/s, shape (count,); zero beyond its end."""
        assert self.radio.trace is not None
        time_ns = (first_block + np.arange(count)) * (self.block_ns or 0)
        return np.nan_to_num(self.radio.trace.values(client, link, time_ns))

    def channel_gains(
        self,
        link: str,
        client: int,
        subchannels: Ints,
        first_block: int,
        count: int,
        is_split: bool | NDArray[np.bool_],
    ) -> Floats:
        """Return the gains of what a client sends on, shape (count, num_owned).

        A channel of a band that was split otherwise is spread over the whole band and sees the mean of
        the client's gains; ``is_split`` is one answer or one for each.
        """
        return _of_channels(self.gains(link, client, first_block, count), subchannels, is_split)

    def noise_psd(
        self,
        link: str,
        client: int,
        subchannels: Ints,
        first_block: int,
        count: int,
        is_split: bool | NDArray[np.bool_],
    ) -> Floats | float:
        """Return noise and interference where it is received, W/Hz; arguments as for :meth:`channel_gains`.

        One number where there is no interference, an array of shape (count, num_owned) where there is.
        """
        noise = self._gains.rows(link, client, first_block, count).noise_psd
        return self.noise_psd_w_per_hz if noise is None else _of_channels(noise, subchannels, is_split)

    def budget(
        self,
        link: str,
        client: int,
        subchannel: int,
        tx_power_w: float,
        time_ns: int,
        split_hz: float | None = None,
    ) -> "LinkBudget":
        """Return how one subchannel's rate at an instant comes about, term by term.

        The rate is what a grant of this subchannel alone would carry; ``split_hz``
        is its width where the band was split otherwise.
        """
        bandwidth_hz = float(self.bandwidths_hz(link)[subchannel]) if split_hz is None else split_hz
        numbers, block = np.array([subchannel]), self.block_at(time_ns)
        is_split = split_hz is not None
        gains, direct_gains, noises = self._gains.rows(link, client, block, 1)
        gain = float(_of_channels(gains, numbers, is_split)[0, 0])
        direct = float(_of_channels(direct_gains, numbers, is_split)[0, 0])
        noise_psd = self.noise_psd_w_per_hz
        if noises is not None:
            noise_psd = float(_of_channels(noises, numbers, is_split)[0, 0])
        where, levels = (link, client, subchannel, time_ns), (gain, direct, noise_psd)
        rate = self.rate_model(link, client, time_ns)
        from cosim.radio.budget import LinkBudget

        return LinkBudget.of(
            self.radio, self.large_scale_at(time_ns), rate, *where, tx_power_w, bandwidth_hz, *levels
        )


def _of_channels(values: Floats, subchannels: Ints, is_split: bool | NDArray[np.bool_]) -> Floats:
    """Return the values of what a client sends on; a part of the band has the mean over the whole band."""
    if is_split is False or not np.any(is_split):
        return values.take(subchannels, axis=1)
    return np.where(is_split, values.mean(axis=1, keepdims=True), values[:, subchannels])
