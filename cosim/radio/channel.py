"""The channel under one seed: what arrives of each client's power, on any subchannel at any time."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cosim.errors import ScenarioError
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.budget import LinkBudget
from cosim.radio.channel_settings import LINKS, ChannelSettings
from cosim.radio.large_scale import LargeScale
from cosim.radio.misfits import misfits
from cosim.radio.mobility.static import Static
from cosim.radio.path import Network, Path, Users
from cosim.radio.path_loss.free_space import SPEED_OF_LIGHT_M_PER_S
from cosim.radio.surface import Complexes
from cosim.rng import Stream, stream
from cosim.units import Floats, Ints

_CHUNK_BLOCKS = 64  # a snapshot of smooth fading costs one chunk per client, a long transfer many
_MIN_CACHED_CHUNKS = 1024
_MOST_LARGE_SCALES = 16
_HANDOVER_BLOCKS = 64  # from one instant whose serving stations are kept to the next


class _Chunk(NamedTuple):
    """Some blocks of one path: gains with and without the surface, and noise with interference, W/Hz."""

    gains: Floats
    direct: Floats
    noise_psd: Floats | None  # None: noise alone


@dataclass(frozen=True, eq=False)
class Channel:
    """What the air does; a pure function of (settings, seed, link, client, time).

    Both servers are reached through every base station, so path loss, shadowing
    and antenna gain are a client's own and shared by all its links, up and down.
    The links lie on different frequencies, so each fades by itself. Adding a
    client changes nothing for the others. A gain is large scale (where the client
    is, which base station serves it) times fading, as the surface changes it; to
    the noise comes the interference.

    Attributes
    ----------
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
    _begin_m: Floats = field(repr=False)
    _bandwidths_hz: dict[str, Floats] = field(repr=False)
    _fading_streams: dict[tuple[str, int], Stream] = field(repr=False)
    _chunks: OrderedDict[tuple[str, int, int], _Chunk] = field(default_factory=OrderedDict, repr=False)
    _large_scales: OrderedDict[tuple[int, int], LargeScale] = field(default_factory=OrderedDict, repr=False)
    _handovers: dict[int, Ints] = field(default_factory=dict, repr=False)
    _travelled: OrderedDict[tuple[int, int], Floats] = field(default_factory=OrderedDict, repr=False)
    _users: dict[int, Users] = field(default_factory=dict, repr=False)

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
        root = stream(seed, "radio")
        bandwidths_hz = {link: np.array(radio.link(link).widths_hz) for link in LINKS}
        for widths in bandwidths_hz.values():
            widths.flags.writeable = False
        begin_m = radio.mobility.begin_m(radio.placement.place(root.child("placement"), num_clients))
        _check_places(radio, begin_m)
        return cls(
            radio=radio,
            num_clients=num_clients,
            seed=seed,
            noise_psd_w_per_hz=radio.noise_psd_w_per_hz,
            block_ns=shortest_block_ns(radio),
            _begin_m=begin_m,
            _bandwidths_hz=bandwidths_hz,
            _fading_streams={
                (link, client): root.child("fading", link, client)
                for link in LINKS
                for client in range(num_clients)
            },
        )

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
        holds_ns = self.radio.mobility.block_ns
        number = 0 if holds_ns is None else time_ns // holds_ns
        return self._large_scale(number, number + 1)

    def _large_scale(self, first: int, beyond: int) -> LargeScale:
        """Return what holds over some blocks of the mobility, kept while in use."""
        kept = self._large_scales.get((first, beyond))
        if kept is None:
            kept = self._large_scales[first, beyond] = self._drawn_large_scale(first, beyond)
            if len(self._large_scales) > _MOST_LARGE_SCALES:
                self._large_scales.popitem(last=False)
        return kept

    def _drawn_large_scale(self, first: int, beyond: int) -> LargeScale:
        time_ns = np.arange(first, beyond) * (self.radio.mobility.block_ns or 0)
        root = stream(self.seed, "radio")
        return LargeScale.at(self.radio, self._begin_m, root, time_ns, before=self._served_before(first))

    def _served_before(self, number: int) -> Ints | None:
        """Return which base station served each client before a block, where a handover depends on it.

        Worked out from the beginning on, so that it is the same whatever was asked for before.
        """
        if number == 0 or not self.radio.base_stations.hysteresis_db:
            return None
        first = max((known for known in self._handovers if known <= number), default=0)
        while first < number:
            beyond = min(first - first % _HANDOVER_BLOCKS + _HANDOVER_BLOCKS, number)
            served: Ints = self._drawn_large_scale(first, beyond).serving[-1]
            if beyond % _HANDOVER_BLOCKS == 0:
                self._handovers[beyond] = served
            elif beyond == number:
                return served
            first = beyond
        return self._handovers[number]

    def bandwidths_hz(self, link: str) -> Floats:
        """Return the width of each subchannel of a link, Hz, shape (num_subchannels,)."""
        return self._bandwidths_hz[link]

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
        return self._rows(link, client, first_block, count)[0]

    def _rows(
        self, link: str, client: int, first_block: int, count: int
    ) -> tuple[Floats, Floats, Floats | None]:
        """Return gains, gains without the surface, and noise with interference, over some blocks."""
        if first_block < 0 or count < 1:
            raise ValueError(f"blocks count from 0, got first block {first_block} and count {count}")
        if self.block_ns is None:
            only = self._chunk(link, client, 0)
            if count == 1:
                return only
            gains, direct, noise = (
                None if one is None else np.broadcast_to(one, (count, one.shape[1])) for one in only
            )
            assert gains is not None
            assert direct is not None
            return gains, direct, noise
        number, offset = divmod(first_block, _CHUNK_BLOCKS)
        rows = slice(offset, offset + count)
        if offset + count <= _CHUNK_BLOCKS:
            gains, direct, noise = self._chunk(link, client, number)
            return gains[rows], direct[rows], None if noise is None else noise[rows]
        last = (first_block + count - 1) // _CHUNK_BLOCKS
        chunks = [self._chunk(link, client, n) for n in range(number, last + 1)]
        noises = [one.noise_psd for one in chunks if one.noise_psd is not None]
        return (
            np.concatenate([one.gains for one in chunks])[rows],
            np.concatenate([one.direct for one in chunks])[rows],
            np.concatenate(noises)[rows] if noises else None,
        )

    def gain_at(self, link: str, time_ns: int) -> Floats:
        """Return every client's linear power gains at an instant, shape (num_clients, num_subchannels)."""
        block = self.block_at(time_ns)
        return np.concatenate([self.gains(link, client, block, 1) for client in range(self.num_clients)])

    def gain_over_noise_alone_at(self, link: str, time_ns: int) -> Floats:
        """Return the gains that give the same SNR without any interference, shaped as by :meth:`gain_at`."""
        block, gains = self.block_at(time_ns), self.gain_at(link, time_ns)
        for client in range(self.num_clients):
            noise = self._rows(link, client, block, 1)[2]
            if noise is not None:
                gains[client] *= self.noise_psd_w_per_hz / noise[0]
        return gains

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
        bandwidth_hz = self._bandwidths_hz[link][subchannels] if bandwidths_hz is None else bandwidths_hz
        is_split = bandwidths_hz is not None
        gains, _, noises = self._rows(link, client, first_block, count)
        snr = (tx_power_w / bandwidth_hz) * _of_channels(gains, subchannels, is_split)
        snr /= self.noise_psd_w_per_hz if noises is None else _of_channels(noises, subchannels, is_split)
        rates, share = self.radio.rate.rates(snr, bandwidth_hz), self.radio.surface.data_share
        return rates if share == 1.0 else share * rates

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
        noise = self._rows(link, client, first_block, count)[2]
        return self.noise_psd_w_per_hz if noise is None else _of_channels(noise, subchannels, is_split)

    def budget(
        self,
        link: str,
        client: int,
        subchannel: int,
        tx_power_w: float,
        time_ns: int,
        split_hz: float | None = None,
    ) -> LinkBudget:
        """Return how one subchannel's rate at an instant comes about, term by term.

        The rate is what a grant of this subchannel alone would carry; ``split_hz``
        is its width where the band was split otherwise.
        """
        bandwidth_hz = float(self._bandwidths_hz[link][subchannel]) if split_hz is None else split_hz
        numbers, block = np.array([subchannel]), self.block_at(time_ns)
        is_split = split_hz is not None
        gains, direct_gains, noises = self._rows(link, client, block, 1)
        gain = float(_of_channels(gains, numbers, is_split)[0, 0])
        direct = float(_of_channels(direct_gains, numbers, is_split)[0, 0])
        noise_psd = self.noise_psd_w_per_hz
        if noises is not None:
            noise_psd = float(_of_channels(noises, numbers, is_split)[0, 0])
        where, levels = (link, client, subchannel, time_ns), (gain, direct, noise_psd)
        return LinkBudget.of(
            self.radio, self.large_scale_at(time_ns), *where, tx_power_w, bandwidth_hz, *levels
        )

    def _chunk(self, link: str, client: int, number: int) -> _Chunk:
        """Return one aligned chunk of blocks, drawn once and kept while in use.

        Chunks are always drawn whole, so the bits of a gain cannot depend on which
        blocks were asked for together.
        """
        key = (link, client, number)
        kept = self._chunks.get(key)
        if kept is not None:
            self._chunks.move_to_end(key)
            return kept
        if not 0 <= client < self.num_clients:
            raise ValueError(f"no client {client}; there are clients 0 to {self.num_clients - 1}")
        drawn = self._chunks[key] = self._draw(link, client, number)
        if len(self._chunks) > max(_MIN_CACHED_CHUNKS, 2 * len(LINKS) * self.num_clients):
            self._chunks.popitem(last=False)
        return drawn

    def _draw(self, link: str, client: int, number: int) -> _Chunk:
        """Return a chunk: large scale times fading, then what the surface and others make of it."""
        block_ns, radio, widths_hz = self.block_ns or 0, self.radio, self._bandwidths_hz[link]
        blocks = 1 if self.block_ns is None else _CHUNK_BLOCKS
        time_ns = (number * _CHUNK_BLOCKS + np.arange(blocks)) * block_ns
        scale, of_block = self._large_scale_over(time_ns)
        mean_gains = scale.mean_gains[of_block, client]
        fading = self._fading(link, client, time_ns)
        path = self._path(link, client, time_ns)
        direct = np.asarray(mean_gains[:, np.newaxis] * fading)
        gains = np.asarray(radio.surface.gains(path, direct))
        path = replace(path, stream=stream(self.seed, "radio", "interference", link, client))
        others = np.broadcast_to(radio.interference.psd_w_per_hz(path, widths_hz), direct.shape)
        noise = self.noise_psd_w_per_hz + others if others.any() else None
        for shared in (gains, direct) if noise is None else (gains, direct, noise):
            shared.flags.writeable = False
        return _Chunk(gains, direct, noise)

    def _path(self, link: str, client: int, time_ns: Ints) -> Path:
        """Return a client's path over some blocks, with the chance of the surface."""
        scale, of_block = self._large_scale_over(time_ns)
        return Path(
            link=link,
            client=client,
            is_uplink=self.radio.link(link).is_uplink,
            time_ns=time_ns,
            client_m=scale.positions_m[of_block, client],
            station_m=scale.station_m[of_block, client],
            stream=stream(self.seed, "radio", "surface", link, client),
            network=Network(
                serving=scale.serving[of_block, client],
                station_gains=scale.station_gains[of_block, client],
                users=self._other_users,
                stream=stream(self.seed, "radio", "neighbours"),
            ),
        )

    def under(self, phases: tuple[int, ...]) -> Self:
        """Return the channel with these phases of the surface; all else is as it was."""
        radio = self.radio.model_copy(update={"surface": self.radio.surface.under(phases)})
        return replace(self, radio=radio, _chunks=OrderedDict())

    def surface_amplitudes(self, link: str, time_ns: int) -> tuple[Complexes, Complexes]:
        """Return the amplitudes of every client's direct path, and of its paths over each element.

        At phase zero, of shapes (num_clients, num_subchannels) and (num_clients, num_elements).
        """
        block = self.block_at(time_ns)
        begins_ns = np.array([block * (self.block_ns or 0)])
        each = [
            self.radio.surface.amplitudes(
                self._path(link, client, begins_ns), self._rows(link, client, block, 1)[1]
            )
            for client in range(self.num_clients)
        ]
        direct, reflected = zip(*each, strict=True)
        return np.concatenate(direct), np.concatenate(reflected)

    def _large_scale_over(self, time_ns: Ints) -> tuple[LargeScale, Ints]:
        """Return the large scale over some blocks, and which of its instants each block has."""
        holds_ns = self.radio.mobility.block_ns
        if holds_ns is None:
            return self.large_scale_at(0), np.zeros(len(time_ns), dtype=np.int64)
        first = int(time_ns[0]) // holds_ns
        return self._large_scale(first, int(time_ns[-1]) // holds_ns + 1), time_ns // holds_ns - first

    def _other_users(self, count: int) -> Users:
        """Return so many users of other cells, placed as clients are; they do not move."""
        kept = self._users.get(count)
        if kept is None:
            chance = stream(self.seed, "radio", "other users")
            resting = self.radio.model_copy(update={"mobility": Static()})
            begin_m = self.radio.placement.place(chance.child("placement"), count)
            root, start_ns = stream(self.seed, "radio"), np.array([0])
            scale = LargeScale.at(resting, begin_m, root, start_ns, of_clients=chance)
            kept = self._users[count] = Users(scale.serving[0], scale.station_gains[0])
        return kept

    def _gone_m(self, time_ns: Ints) -> Floats:
        """Return how far every client has gone, m, shape (num_instants, num_clients), kept while in use."""
        key = int(time_ns[0]), len(time_ns)
        kept = self._travelled.get(key)
        if kept is None:
            chance = stream(self.seed, "radio", "mobility")
            kept = self.radio.mobility.travelled_m(self._begin_m, chance, time_ns)
            self._travelled[key] = kept
            if len(self._travelled) > _MOST_LARGE_SCALES:
                self._travelled.popitem(last=False)
        return kept

    def _fading(self, link: str, client: int, time_ns: Ints) -> Floats:
        """Return the fading over some blocks, shape (count, num_subchannels)."""
        fading, chance = self.radio.fading, self._fading_streams[link, client]
        widths_hz = self._bandwidths_hz[link]
        if fading.follows_mobility:
            sampled_ns = time_ns // (fading.block_ns or 1) * (fading.block_ns or 1)
            wavelength_m = SPEED_OF_LIGHT_M_PER_S / self.radio.carrier_hz
            return fading.gains_along(chance, self._gone_m(sampled_ns)[:, client] / wavelength_m, widths_hz)
        if fading.block_ns is None or fading.block_ns == self.block_ns:
            first = int(time_ns[0]) // (self.block_ns or 1)
            return fading.gains_over(chance, first, len(time_ns), widths_hz)
        numbers = time_ns // fading.block_ns
        first, last = int(numbers[0]), int(numbers[-1])
        return fading.gains_over(chance, first, last - first + 1, widths_hz)[numbers - first]


def _check_places(radio: ChannelSettings, begin_m: Floats) -> None:
    """Refuse clients that begin outside of the layout of base stations."""
    outside = np.flatnonzero(~radio.base_stations.covers(begin_m))
    if len(outside):
        x, y = begin_m[outside[0]]
        raise ScenarioError(
            f"radio.placement: client {outside[0]} begins at [{x:.4g}, {y:.4g}] m, outside of the layout of "
            f"radio.base_stations {radio.base_stations.kind!r}; place clients within, or lay out more sites."
        )


def _of_channels(values: Floats, subchannels: Ints, is_split: bool | NDArray[np.bool_]) -> Floats:
    """Return the values of what a client sends on; a part of the band has the mean over the whole band."""
    if is_split is False or not np.any(is_split):
        return values.take(subchannels, axis=1)
    return np.where(is_split, values.mean(axis=1, keepdims=True), values[:, subchannels])
