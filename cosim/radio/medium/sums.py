"""What becomes of values that are sent at once: their weights, their noise, and what they radiate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.medium.delivery import Distortion, Uneven
from cosim.radio.precoding import Precoded
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Grid:
    """The resource elements of one transmission: a subcarrier for a symbol each.

    Attributes
    ----------
    first_block
        The block of the channel it begins in.
    symbols, subcarriers
        Symbols that begin in each block, shape (num_blocks,), and subcarriers of each
        subchannel, shape (num_subchannels,).
    """

    first_block: int
    symbols: Ints
    subcarriers: Ints

    @classmethod
    def of(cls, channel: Channel, start_ns: int, symbol_ns: int, num_symbols: int, subcarriers: Ints) -> Self:
        """Return the grid of a transmission; each symbol lies in the block it begins in."""
        first = channel.block_at(start_ns)
        of_symbol = np.zeros(num_symbols, dtype=np.int64)
        if channel.block_ns is not None:
            of_symbol = (start_ns + symbol_ns * np.arange(num_symbols)) // channel.block_ns - first
        return cls(first, np.bincount(of_symbol), subcarriers)

    @property
    def num_elements(self) -> int:
        """How many there are."""
        return int(self.symbols.sum()) * int(self.subcarriers.sum())

    @property
    def shares(self) -> Floats:
        """Share of them in each block and subchannel, shape (num_blocks, num_subchannels)."""
        return np.asarray(self.symbols[:, np.newaxis] * self.subcarriers / self.num_elements)

    def gains(self, channel: Channel, link: str, clients: Sequence[int]) -> Floats:
        """Return the gains of clients, shape (num_clients, num_blocks, num_subchannels)."""
        return np.stack(
            [channel.gains(link, client, self.first_block, len(self.symbols)) for client in clients]
        )

    def noise_psd(self, channel: Channel, link: str, clients: Sequence[int]) -> Floats:
        """Return noise and interference at the base station, W/Hz, shape (num_blocks, num_subchannels).

        Where clients are served by base stations that hear differently, it is the mean.
        """
        every, count = np.arange(len(self.subcarriers)), len(self.symbols)
        found = [channel.noise_psd(link, client, every, self.first_block, count, False) for client in clients]
        return np.asarray(np.mean([np.broadcast_to(one, self.shares.shape) for one in found], axis=0))


@dataclass(frozen=True, eq=False)
class Superposition:
    """How clients that send at once do so.

    Attributes
    ----------
    tx_power_w
        What each client that sends radiates over the whole band in the mean over the
        transmission, W, if its values are as large as they may be; the others are silent.
    distortion
        What the air makes of the values.
    """

    tx_power_w: Mapping[int, float]
    distortion: Distortion

    @classmethod
    def of(
        cls,
        clients: Sequence[int],
        precoded: Precoded,
        gains: Floats,
        noise_w: Floats,
        grid: Grid,
        numbers_per_element: int,
        num_values: int,
        max_rms: float,
        stream: tuple[str | int, ...],
        turns: Sequence[tuple[float, float]] = (),
        known: Floats | None = None,
        phases: Floats | None = None,
    ) -> Self:
        """Return what precoded values become.

        Parameters
        ----------
        clients, precoded, gains
            Who is ready; what of each arrives; their gains, shape (num_clients,
            num_blocks, num_subchannels).
        noise_w
            Noise on a subcarrier, W, shape (num_blocks, num_subchannels).
        turns
            By how much each client's phase is off, see :class:`Uneven`; empty if none is.
        known, phases
            The gains that were precoded by, and by how much phases are off with them, of the shape of
            ``gains``; None where those are known as they are.
        """
        weights, received_w, shares = precoded.weights, precoded.received_w, grid.shares
        inverted = gains if known is None else known
        listens = received_w > 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            # what is radiated on one subcarrier by values of full size, W
            each_w = np.where(weights > 0.0, weights**2 * received_w / inverted, 0.0)
            # of an element's noise one number has half, and of two numbers each has half of its power
            spread = max_rms * np.sqrt(numbers_per_element / 2.0 * noise_w / received_w)
        noise_std = np.where(listens, spread, 0.0)
        heard = np.flatnonzero((weights * shares).any(axis=(1, 2))).tolist()
        tx_power_w = (each_w * shares).sum(axis=(1, 2)) * int(grid.subcarriers.sum())
        if known is not None:
            weights = weights * np.sqrt(gains / known)
        in_phase = weights if phases is None else weights * np.cos(2.0 * np.pi * phases)
        of_each = (in_phase * shares).sum(axis=(1, 2))
        one_weight = _common(weights[heard], shares)
        one_noise = _common(noise_std[np.newaxis], shares)
        uneven = None
        if heard and (one_weight is None or one_noise is None or turns or phases is not None):
            uneven = Uneven(
                numbers_per_element=numbers_per_element,
                subcarriers=tuple(grid.subcarriers.tolist()),
                symbols=tuple(grid.symbols.tolist()),
                weights=weights[heard],
                noise_std=noise_std,
                turns=tuple(turns[one] for one in heard) if turns else (),
                phases=None if phases is None else phases[heard],
            )
        means = of_each[heard] if one_weight is None or phases is not None else one_weight
        mean_noise = sqrt(float((noise_std**2 * shares).sum())) if one_noise is None else float(one_noise[0])
        return cls(
            tx_power_w={clients[one]: float(tx_power_w[one]) for one in heard},
            distortion=Distortion(
                weights={clients[one]: float(mean) for one, mean in zip(heard, means, strict=True)},
                noise_std=mean_noise if heard else float("inf"),
                max_rms=max_rms,
                stream=stream,
                filled=num_values / (numbers_per_element * grid.num_elements),
                uneven=uneven,
            ),
        )


def _common(values: Floats, shares: Floats) -> Floats | None:
    """Return each row's value where it is the same on all elements, shape (num_rows,); else None."""
    used = values[:, shares > 0.0]  # (num_rows, num_used)
    return used[:, 0] if (used == used[:, :1]).all() else None
