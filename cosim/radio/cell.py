"""The air of one cell under one seed: what arrives of each client's power, on any subchannel at any time."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cosim.radio.budget import LinkBudget
from cosim.radio.settings import LINKS, Radio
from cosim.rng import Stream, stream
from cosim.units import Floats, Ints, linear_to_db

_CHUNK_BLOCKS = 64  # a snapshot of smooth fading costs one chunk per client, a long transfer many
_MIN_CACHED_CHUNKS = 1024


@dataclass(frozen=True, eq=False)
class Cell:
    """What the air of a cell does; a pure function of (settings, seed, link, client, time).

    Both servers stand at the base station, so path loss, shadowing and antenna
    gain are a client's own and shared by all its links, up and down. The links
    lie on different frequencies, so each fades by itself. Adding a client changes
    nothing for the others.

    Attributes
    ----------
    positions_m, distances_m
        Where the clients stand, shape (num_clients, 2); how far from the base station, shape (num_clients,).
    path_loss_db, shadowing_db
        Losses of each client, dB, shape (num_clients,).
    mean_gains
        Linear power gain of each client before fading, shape (num_clients,).
    noise_psd_w_per_hz
        Noise at a receiver, its noise figure included, W/Hz.
    block_ns
        How long a gain holds, ns; None where it holds for the whole run.
    """

    radio: Radio
    num_clients: int
    seed: int
    positions_m: Floats
    distances_m: Floats
    path_loss_db: Floats
    shadowing_db: Floats
    mean_gains: Floats
    noise_psd_w_per_hz: float
    block_ns: int | None
    _bandwidths_hz: dict[str, Floats] = field(repr=False)
    _fading_streams: dict[tuple[str, int], Stream] = field(repr=False)
    _chunks: OrderedDict[tuple[str, int, int], Floats] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def build(cls, radio: Radio, num_clients: int, seed: int) -> Self:
        """Return the cell these settings and this seed describe.

        Raises
        ------
        ScenarioError
            If the placement cannot place that many clients.
        ValueError
            If there is no client.
        """
        if num_clients < 1:
            raise ValueError(f"a cell needs at least one client, got {num_clients}")
        root = stream(seed, "radio")
        positions_m = radio.placement.place(root.child("placement"), num_clients)
        distances_m = np.hypot(positions_m[:, 0], positions_m[:, 1])
        path_loss_db = radio.path_loss.loss_db(distances_m)
        shadowing_db = radio.shadowing.draw_db(root.child("shadowing"), num_clients)
        mean_gains = 10.0 ** ((radio.antenna_gain_db - path_loss_db - shadowing_db) / 10.0)
        bandwidths_hz = {link: np.array(radio.link(link).widths_hz) for link in LINKS}
        for shared in (
            positions_m,
            distances_m,
            path_loss_db,
            shadowing_db,
            mean_gains,
            *bandwidths_hz.values(),
        ):
            shared.flags.writeable = False
        return cls(
            radio=radio,
            num_clients=num_clients,
            seed=seed,
            positions_m=positions_m,
            distances_m=distances_m,
            path_loss_db=path_loss_db,
            shadowing_db=shadowing_db,
            mean_gains=mean_gains,
            noise_psd_w_per_hz=radio.noise_psd_w_per_hz,
            block_ns=radio.fading.block_ns,
            _bandwidths_hz=bandwidths_hz,
            _fading_streams={
                (link, client): root.child("fading", link, client)
                for link in LINKS
                for client in range(num_clients)
            },
        )

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
        if first_block < 0 or count < 1:
            raise ValueError(f"blocks count from 0, got first block {first_block} and count {count}")
        if self.block_ns is None:
            only = self._chunk(link, client, 0)
            return only if count == 1 else np.broadcast_to(only, (count, only.shape[1]))
        number, offset = divmod(first_block, _CHUNK_BLOCKS)
        if offset + count <= _CHUNK_BLOCKS:
            return self._chunk(link, client, number)[offset : offset + count]
        last = (first_block + count - 1) // _CHUNK_BLOCKS
        joined = np.concatenate([self._chunk(link, client, n) for n in range(number, last + 1)])
        return joined[offset : offset + count]

    def gain_at(self, link: str, time_ns: int) -> Floats:
        """Return every client's linear power gains at an instant, shape (num_clients, num_subchannels)."""
        block = self.block_at(time_ns)
        return np.concatenate([self.gains(link, client, block, 1) for client in range(self.num_clients)])

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
            Width of each, Hz, shape (num_owned,), where the band was carved anew;
            None for the link's own.
        """
        bandwidth_hz = self._bandwidths_hz[link][subchannels] if bandwidths_hz is None else bandwidths_hz
        gain = self.channel_gains(link, client, subchannels, first_block, count, bandwidths_hz is not None)
        snr = (tx_power_w / bandwidth_hz) * gain / self.noise_psd_w_per_hz
        return self.radio.rate.rates(snr, bandwidth_hz)

    def channel_gains(
        self,
        link: str,
        client: int,
        subchannels: Ints,
        first_block: int,
        count: int,
        is_carved: bool | NDArray[np.bool_],
    ) -> Floats:
        """Return the gains of what a client sends on, shape (count, num_owned).

        A channel carved anew is spread over the whole band and sees the mean of
        the client's gains; ``is_carved`` is one answer or one for each.
        """
        gains = self.gains(link, client, first_block, count)
        if is_carved is False or not np.any(is_carved):
            return gains.take(subchannels, axis=1)
        return np.where(is_carved, gains.mean(axis=1, keepdims=True), gains[:, subchannels])

    def budget(
        self,
        link: str,
        client: int,
        subchannel: int,
        tx_power_w: float,
        time_ns: int,
        carved_hz: float | None = None,
    ) -> LinkBudget:
        """Return how one subchannel's rate at an instant comes about, term by term.

        The rate is what a grant of this subchannel alone would carry; ``carved_hz``
        is its width where the band was carved anew.
        """
        bandwidth_hz = float(self._bandwidths_hz[link][subchannel]) if carved_hz is None else carved_hz
        numbers, block = np.array([subchannel]), self.block_at(time_ns)
        gain = float(self.channel_gains(link, client, numbers, block, 1, carved_hz is not None)[0, 0])
        snr = (tx_power_w / bandwidth_hz) * gain / self.noise_psd_w_per_hz
        rate = float(self.radio.rate.rates(np.array([snr]), np.array([bandwidth_hz])))
        tx_power_dbm = float(linear_to_db(tx_power_w)) + 30.0
        gain_db = float(linear_to_db(gain))
        return LinkBudget(
            link=link,
            client=client,
            subchannel=subchannel,
            time_ns=time_ns,
            distance_m=float(self.distances_m[client]),
            path_loss_db=float(self.path_loss_db[client]),
            shadowing_db=float(self.shadowing_db[client]),
            antenna_gain_db=self.radio.antenna_gain_db,
            fading_db=float(linear_to_db(gain / self.mean_gains[client])),
            gain_db=gain_db,
            bandwidth_hz=bandwidth_hz,
            tx_power_dbm=tx_power_dbm,
            tx_psd_dbm_per_hz=tx_power_dbm - float(linear_to_db(bandwidth_hz)),
            received_power_dbm=tx_power_dbm + gain_db,
            noise_psd_dbm_per_hz=self.radio.noise_psd_dbm_per_hz,
            noise_figure_db=self.radio.noise_figure_db,
            noise_power_dbm=float(linear_to_db(self.noise_psd_w_per_hz * bandwidth_hz)) + 30.0,
            snr_db=float(linear_to_db(snr)),
            rate_bit_per_s=rate,
            spectral_efficiency_bit_per_s_per_hz=rate / bandwidth_hz,
        )

    def _chunk(self, link: str, client: int, number: int) -> Floats:
        """Return the gains of one aligned chunk of blocks, drawn once and kept while in use.

        Chunks are always drawn whole, so the bits of a gain cannot hang on which
        blocks were asked for together.
        """
        key = (link, client, number)
        kept = self._chunks.get(key)
        if kept is not None:
            self._chunks.move_to_end(key)
            return kept
        if not 0 <= client < self.num_clients:
            raise ValueError(f"no client {client}; this cell has clients 0 to {self.num_clients - 1}")
        blocks = 1 if self.block_ns is None else _CHUNK_BLOCKS
        fading = self.radio.fading.gains(
            self._fading_streams[link, client],
            number * _CHUNK_BLOCKS,
            blocks,
            len(self._bandwidths_hz[link]),
        )
        drawn = np.asarray(self.mean_gains[client] * fading)
        drawn.flags.writeable = False
        self._chunks[key] = drawn
        if len(self._chunks) > max(_MIN_CACHED_CHUNKS, 2 * len(LINKS) * self.num_clients):
            self._chunks.popitem(last=False)
        return drawn
