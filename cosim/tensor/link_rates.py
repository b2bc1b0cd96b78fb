"""The rates of one link of one channel, for any of its clients in any block, many at once."""

from collections.abc import Sequence

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.rng import stream
from cosim.tensor.philox import Keys, Rows
from cosim.units import Floats, Ints

_AT_ONCE = 512  # rows; what is drawn for them stays in the cache


class LinkRates:
    """What grants carry over a link.

    Where each block is drawn by itself, rows of many clients are drawn and rated together, by the very
    operations of :meth:`cosim.radio.channel.Channel.rates`; else that is asked.

    Parameters
    ----------
    channel, medium, link
        Which air, and which link of it.
    grants
        Of each client.
    """

    def __init__(self, channel: Channel, medium: Medium, link: Link, grants: Sequence[Grant]) -> None:
        self._channel, self._medium, self._link, self._grants = channel, medium, link, grants
        radio = channel.radio
        widths = {len(one.subchannels) for one in grants}
        is_split = any(one.bandwidths_hz is not None for one in grants)
        self._is_drawn = radio.is_plain and radio.trace is None and len(widths) == 1 and not is_split
        if not self._is_drawn:
            return
        every = channel.bandwidths_hz(link.name)
        self._columns, self._band = _alike([one.subchannels for one in grants])
        self._powers, self._power = _alike([one.tx_power_w for one in grants])
        self._bandwidths_hz = every[self._columns]
        self._width = 1 if radio.fading.selectivity == "flat" else len(every)
        fading_of = radio.duplex.fading_of(link.name)
        base = stream(channel.air_seed, "radio", "fading", fading_of)
        self._keys = Keys([base.child(client) for client in range(len(grants))])
        self._is_whole = len(self._columns) == 1 and np.array_equal(self._columns[0], np.arange(len(every)))

    def of(self, clients: Ints, blocks: Ints) -> Floats:
        """Return the rate of each client in a block, bit/s, shape (num,)."""
        if not self._is_drawn:
            each = zip(clients.tolist(), blocks.tolist(), strict=True)
            return np.array([self.over(client, block, 1)[0] for client, block in each])
        found = np.empty(len(clients))
        for begin in range(0, len(clients), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            found[some] = self._rated(clients[some], self._fading(clients[some], blocks[some]))
        return found

    def over(self, client: int, first: int, count: int) -> Floats:
        """Return the rates of one client over some blocks, bit/s, shape (count,)."""
        if not self._is_drawn:
            asked = self._channel, self._link, client, self._grants[client], first, count
            return self._medium.rates(*asked)
        fading, chance = self._channel.radio.fading, self._keys.streams[client]
        drawn = fading.draw(chance, 0 if fading.block_ns is None else first, count, self._width)
        return self._rated(np.full(count, client), np.broadcast_to(drawn, (count, self._width)))

    def before_fading(self) -> Floats:
        """Return what each client would be sent at if nothing faded, bit/s, shape (num_clients,)."""
        clients = np.arange(len(self._grants))
        if not self._is_drawn:
            return np.array([self.over(one, 0, 1)[0] for one in clients.tolist()])
        each = [
            self._rated(some, np.ones((len(some), self._width)))
            for some in np.array_split(clients, len(clients) // _AT_ONCE + 1)
        ]
        return np.concatenate(each)

    def _fading(self, clients: Ints, blocks: Ints) -> Floats:
        fading = self._channel.radio.fading
        first = Rows.OWN if fading.block_ns is not None else 0
        return fading.draw(Rows.of(self._keys, clients, blocks), first, len(clients), self._width)

    def _rated(self, clients: Ints, drawn: Floats) -> Floats:
        """Return the rates of clients from the fading of all subchannels of the link."""
        channel, band = self._channel, self._band[clients]
        widths_hz = self._bandwidths_hz[0] if self._is_whole else self._bandwidths_hz[band]
        if self._width > 1 and not self._is_whole:
            drawn = np.take_along_axis(drawn, self._columns[band], axis=1)
        snr = self._powers[self._power[clients]] / widths_hz
        snr = snr * (channel.mean_gains[clients][:, np.newaxis] * drawn)
        snr /= channel.noise_psd_w_per_hz
        return np.asarray(channel.radio.rate.rates(snr, widths_hz))


def _alike(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, Ints]:
    """Return the rows that differ, and which of them each is."""
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(one.tobytes(), len(numbers)) for one in rows])
    first = np.unique(which, return_index=True)[1]
    return np.array([rows[one] for one in first.tolist()]), which
