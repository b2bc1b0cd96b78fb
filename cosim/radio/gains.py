"""Gains and noise of every path, block by block; drawn in chunks, and kept while in use."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cosim.radio.channel_settings import LINKS, ChannelSettings
from cosim.radio.kept import Kept
from cosim.radio.large_scales import LargeScales
from cosim.rng import stream
from cosim.units import SPEED_OF_LIGHT_M_PER_S, Floats, Ints

if TYPE_CHECKING:
    from cosim.radio.path import Path

_CHUNK_BLOCKS = 64  # a snapshot of smooth fading costs one chunk per client, a long transfer many
_CHUNK_GAINS = 2048  # of a chunk whose blocks are drawn one by one, unless they are very wide
_FEWEST_BLOCKS = 8
_MIN_KEPT = 1024
_MOST_KEPT_BYTES = 1 << 28


class Rows(NamedTuple):
    """Some blocks of one path: gains with and without the surface, and noise with interference, W/Hz.

    Of shape (count, num_subchannels), read-only or a copy; the noise is None where there is noise alone.
    """

    gains: Floats
    direct: Floats
    noise_psd: Floats | None


class Gains:
    """The gains of all paths; a pure function of (settings, seed, link, client, block).

    Parameters
    ----------
    radio, num_clients, seed
        As of the channel.
    block_ns
        How long a gain holds, ns; None where it holds for the whole run.
    large_scales
        What holds before fading.
    """

    def __init__(
        self,
        radio: ChannelSettings,
        num_clients: int,
        seed: int,
        block_ns: int | None,
        large_scales: LargeScales,
    ) -> None:
        self._radio, self._num_clients, self._seed, self._block_ns = radio, num_clients, seed, block_ns
        self._large_scales = large_scales
        self.widths_hz = {link: np.array(radio.link(link).widths_hz) for link in LINKS}
        self._chunk_blocks = {link: self._blocks_of(len(widths)) for link, widths in self.widths_hz.items()}
        most_bytes = max(8 * self._chunk_blocks[link] * len(one) for link, one in self.widths_hz.items())
        most = min(2 * len(LINKS) * num_clients, _MOST_KEPT_BYTES // most_bytes)
        self._chunks: Kept[tuple[str, int, int], Rows] = Kept(max(_MIN_KEPT, most))
        for widths in self.widths_hz.values():
            widths.flags.writeable = False

    def rows(self, link: str, client: int, first_block: int, count: int) -> Rows:
        """Return gains and noise of a client over some blocks, the same in each where gains never change.

        Raises
        ------
        ValueError
            If there is no such client, or no such block.
        """
        if first_block < 0 or count < 1:
            raise ValueError(f"blocks count from 0, got first block {first_block} and count {count}")
        rows: slice | Ints
        if self._block_ns is None:
            chunk = self._chunk(link, client, 0)
            if count == 1:
                return chunk
            rows = np.zeros(count, dtype=np.int64)
        else:
            blocks = self._chunk_blocks[link]
            number, offset = divmod(first_block, blocks)
            chunk, rows = self._chunk(link, client, number), slice(offset, offset + count)
            if offset + count > blocks:
                last = (first_block + count - 1) // blocks
                others = [self._chunk(link, client, one) for one in range(number + 1, last + 1)]
                chunk = _joined([chunk, *others])
        gains, direct, noise = chunk
        return Rows(gains[rows], direct[rows], None if noise is None else noise[rows])

    def _blocks_of(self, num_subchannels: int) -> int:
        """Return how many blocks of a link are drawn at once; fewer of a wide one, if no bit changes."""
        if self._block_ns is None:
            return 1
        if not self._radio.is_plain or self._radio.trace is not None:
            return _CHUNK_BLOCKS
        whole = _CHUNK_GAINS // num_subchannels
        return min(_CHUNK_BLOCKS, max(_FEWEST_BLOCKS, 1 << max(whole.bit_length() - 1, 0)))

    def path(self, link: str, client: int, time_ns: Ints) -> "Path":
        """Return a client's path over some blocks, with the chance of the surface."""
        from cosim.radio.path import Network, Path

        scale, of_block = self._large_scales.over(time_ns)
        return Path(
            link=link,
            client=client,
            is_uplink=self._radio.link(link).is_uplink,
            time_ns=time_ns,
            client_m=scale.positions_m[of_block, client],
            station_m=scale.station_m[of_block, client],
            stream=stream(self._seed, "radio", "surface", link, client),
            network=Network(
                serving=scale.serving[of_block, client],
                station_gains=scale.station_gains[of_block, client],
                users=self._large_scales.other_users,
                stream=stream(self._seed, "radio", "neighbours"),
            ),
        )

    def _chunk(self, link: str, client: int, number: int) -> Rows:
        """Return one aligned chunk of blocks.

        Chunks are always drawn whole, so the bits of a gain cannot depend on which
        blocks were asked for together.
        """
        key = (link, client, number)
        found = self._chunks.find(key)
        if found is not None:
            return found
        if not 0 <= client < self._num_clients:
            raise ValueError(f"no client {client}; there are clients 0 to {self._num_clients - 1}")
        return self._chunks.keep(key, self._drawn(*key))

    def _drawn(self, link: str, client: int, number: int) -> Rows:
        """Return a chunk: large scale times fading, then what the surface and others make of it."""
        radio, blocks = self._radio, self._chunk_blocks[link]
        time_ns = (number * blocks + np.arange(blocks)) * (self._block_ns or 0)
        scale, of_block = self._large_scales.over(time_ns)
        direct = self._traced(link, client, time_ns, scale.mean_gains[of_block, client])
        if direct is None:
            mean = scale.mean_gains[of_block, client][:, np.newaxis]
            direct = np.asarray(mean * self._fading(link, client, time_ns))
        if radio.is_undisturbed:
            direct.flags.writeable = False
            return Rows(direct, direct, None)
        path = self.path(link, client, time_ns)
        gains = np.asarray(radio.surface.gains(path, direct))
        path = replace(path, stream=stream(self._seed, "radio", "interference", link, client))
        others = np.broadcast_to(radio.interference.psd_w_per_hz(path, self.widths_hz[link]), direct.shape)
        noise = radio.noise_psd_w_per_hz + others if others.any() else None
        for shared in (gains, direct) if noise is None else (gains, direct, noise):
            shared.flags.writeable = False
        return Rows(gains, direct, noise)

    def _traced(self, link: str, client: int, time_ns: Ints, mean: Floats) -> Floats | None:
        """Return the gains of a trace, shape (count, num_subchannels); None where they are modelled."""
        trace, widths_hz = self._radio.trace, self.widths_hz[link]
        if trace is None or trace.gives == "rates":
            return None
        noise_w = self._radio.noise_psd_w_per_hz * float(widths_hz.sum())
        gains = trace.gains(trace.values(client, link, time_ns), mean, noise_w)
        return np.repeat(gains[:, np.newaxis], len(widths_hz), axis=1)

    def _fading(self, link: str, client: int, time_ns: Ints) -> Floats:
        """Return the fading over some blocks, shape (count, num_subchannels)."""
        fading, chance = (
            self._radio.fading,
            stream(self._seed, "radio", "fading", self._radio.duplex.fading_of(link), client),
        )
        widths_hz = self.widths_hz[link]
        if fading.follows_mobility:
            sampled_ns = time_ns // (fading.block_ns or 1) * (fading.block_ns or 1)
            wavelength_m = SPEED_OF_LIGHT_M_PER_S / self._radio.carrier_hz
            gone_m = self._large_scales.gone_m(sampled_ns)[:, client]
            return fading.gains_along(chance, gone_m / wavelength_m, widths_hz)
        if fading.block_ns is None or fading.block_ns == self._block_ns:
            first = int(time_ns[0]) // (self._block_ns or 1)
            return fading.gains_over(chance, first, len(time_ns), widths_hz)
        numbers = time_ns // fading.block_ns
        first, last = int(numbers[0]), int(numbers[-1])
        return fading.gains_over(chance, first, last - first + 1, widths_hz)[numbers - first]


def _joined(chunks: Sequence[Rows]) -> Rows:
    """Return chunks one after the other."""
    noises = [one.noise_psd for one in chunks if one.noise_psd is not None]
    return Rows(
        np.concatenate([one.gains for one in chunks]),
        np.concatenate([one.direct for one in chunks]),
        np.concatenate(noises) if noises else None,
    )
