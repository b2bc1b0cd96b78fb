"""The air of many copies of a cell: what is drawn of each, and the rates that decisions have on it."""

from collections.abc import Sequence

import numpy as np

from cosim.control.state import LinkState
from cosim.radio.large_scales import LargeScales
from cosim.radio.settings import Radio
from cosim.rng import Stream, stream
from cosim.tensor.philox import Columns, Keys, Rows
from cosim.units import Floats, Ints

_WINDOW = 8  # blocks that are drawn together and kept, as rounds and what is seen before them meet


class Airs:
    """The air of each copy, by its seed.

    Parameters
    ----------
    links
        Those that take time.
    num_copies, num_clients
        How many.

    Attributes
    ----------
    means
        Gains before fading, shape (num_copies, num_clients).
    """

    def __init__(self, links: Sequence[LinkState], num_copies: int, num_clients: int) -> None:
        self._links, self._num_clients = links, num_clients
        self.means = np.ones((num_copies, num_clients))
        self._windows = [np.full((num_copies, 2), -1) for _ in links]
        self._kept = [np.zeros((num_copies, 2 * _WINDOW, *one.gains.shape)) for one in links]
        self._radios: list[Radio | None] = [None] * num_copies
        self._streams: list[list[list[Stream]]] = [[] for _ in range(num_copies)]  # by copy and link

    def begin(self, copy: int, radio: Radio, seed: int) -> None:
        """Give a copy another air."""
        self.means[copy] = LargeScales(radio, self._num_clients, seed).at(0).mean_gains[0]
        root = stream(seed, "radio", "fading")
        each = [root.child(link.name) for link in self._links]
        for windows in self._windows:
            windows[copy] = -1
        self._streams[copy] = [[one.child(client) for client in range(self._num_clients)] for one in each]
        self._radios[copy] = radio

    def gains(self, number: int, copies: Ints, first: Ints, count: int) -> Floats:
        """Return the gains of a link over some blocks, shape (num, count, num_clients, num_subchannels).

        Parameters
        ----------
        number
            Of the link.
        copies, first
            Copies and the first block of each, shape (num,).
        """
        if count > _WINDOW:
            several = zip(copies.tolist(), first.tolist(), strict=True)
            return np.stack([self._drawn(number, copy, begin, count) for copy, begin in several])
        blocks = first[:, np.newaxis] + np.arange(count)
        for column in (0, count - 1):
            window = blocks[:, column] // _WINDOW
            missing = self._windows[number][copies, window % 2] != window
            if missing.any():
                self._keep(number, copies[missing], window[missing])
        return np.asarray(self._kept[number][copies[:, np.newaxis], blocks % (2 * _WINDOW)])

    def _keep(self, number: int, copies: Ints, windows: Ints) -> None:
        """Draw windows of copies; those of several in one go where a row depends on its own numbers alone."""
        first = windows % 2 * _WINDOW
        if len(copies) > 1 and self._is_by_row(copies):
            drawn = self._drawn_together(number, copies, windows)
        else:
            several = zip(copies.tolist(), (windows * _WINDOW).tolist(), strict=True)
            drawn = np.stack([self._drawn(number, copy, begin, _WINDOW) for copy, begin in several])
        within = first[:, np.newaxis] + np.arange(_WINDOW)
        self._kept[number][copies[:, np.newaxis], within] = drawn
        self._windows[number][copies, windows % 2] = windows

    def _is_by_row(self, copies: Ints) -> bool:
        radios = [self._radios[copy] for copy in copies.tolist()]
        one = radios[0]
        assert one is not None
        return one.fading.draws_rows_alone and all(other is one for other in radios)

    def _drawn_together(self, number: int, copies: Ints, windows: Ints) -> Floats:
        """Return the gains of copies in a window each, shape (num, _WINDOW, num_clients, num_subchannels)."""
        radio = self._radios[int(copies[0])]
        assert radio is not None
        fading, num_subchannels = radio.fading, self._links[number].num_subchannels
        streams = [one for copy in copies.tolist() for one in self._streams[copy][number]]
        width = 1 if fading.selectivity == "flat" else num_subchannels
        begins = np.zeros_like(windows) if fading.block_ns is None else windows * _WINDOW
        blocks = begins[:, np.newaxis] + (0 if fading.block_ns is None else np.arange(_WINDOW))
        rows = np.broadcast_to(blocks[:, np.newaxis], (len(copies), self._num_clients, _WINDOW)).ravel()
        which = np.arange(len(streams)).repeat(_WINDOW)
        drawn = fading.draw(Rows.of(Keys(streams), which, rows), Rows.OWN, len(rows), width)
        drawn = drawn.reshape(len(copies), self._num_clients, _WINDOW, -1).swapaxes(1, 2)
        return np.asarray(self.means[copies][:, np.newaxis, :, np.newaxis] * drawn)

    def _drawn(self, number: int, copy: int, first: int, count: int) -> Floats:
        """Return the gains of one copy, shape (count, num_clients, num_subchannels)."""
        radio = self._radios[copy]
        assert radio is not None
        fading, num_subchannels = radio.fading, self._links[number].num_subchannels
        width = 1 if fading.selectivity == "flat" else num_subchannels
        if fading.block_ns is None:
            first, asked = 0, 1
        else:
            asked = count
        streams = [Columns(one.key, np.arange(width)) for one in self._streams[copy][number]]
        drawn = np.stack([fading.draw(one, first, asked, width) for one in streams], axis=1)
        wide = np.broadcast_to(drawn, (count, self._num_clients, num_subchannels))
        return np.asarray(self.means[copy][:, np.newaxis] * wide)

    def rates(self, number: int, copies: Ints, gains: Floats, owners: Ints, powers_w: Floats) -> Floats:
        """Return the rates of a link, bit/s, shape (num, count, num_clients), by the channel's operations.

        Parameters
        ----------
        number
            Of the link.
        copies
            Whose gains these are, shape (num,).
        gains
            Shape (num, count, num_clients, num_subchannels).
        owners, powers_w
            Who has each subchannel, and each client's power over all of its own, of shapes
            (num, num_subchannels) and (num, num_clients).
        """
        radio, widths_hz = self._radios[int(copies[0])], self._links[number].bandwidths_hz
        assert radio is not None
        num, count, num_clients, _ = gains.shape
        if num == 1:
            return self._rates_of_one(radio, widths_hz, gains, owners[0], powers_w[0])
        owned = owners[:, np.newaxis] == np.arange(num_clients)[:, np.newaxis]
        order = np.argsort(~owned, axis=2, kind="stable")  # own subchannels first, ascending
        counts = owned.sum(axis=2)
        rates = np.zeros((num, count, num_clients))
        noise = radio.noise_psd_w_per_hz
        is_even = bool((widths_hz == widths_hz[0]).all())
        for size in np.unique(counts[counts > 0]).tolist():  # sums of as many have the bits of the channel's
            copy, client = np.nonzero(counts == size)
            columns = order[copy, client, :size]
            own = gains[copy[:, np.newaxis], :, client[:, np.newaxis], columns]  # (some, size, count)
            width = np.broadcast_to(widths_hz[:1], size) if is_even else widths_hz[columns][:, np.newaxis]
            psd = (powers_w[copy, client] / size)[:, np.newaxis, np.newaxis] / width
            snr = psd * np.ascontiguousarray(own.swapaxes(1, 2))
            snr /= noise
            rates[copy, :, client] = radio.rate.rates(snr, width)
        return rates

    def _rates_of_one(
        self, radio: Radio, widths_hz: Floats, gains: Floats, owners: Ints, powers_w: Floats
    ) -> Floats:
        """Return the same of one copy: what is of each subchannel in one go, then client by client."""
        _, count, num_clients, num_subchannels = gains.shape
        sizes = np.bincount(owners, minlength=num_clients)
        psd = powers_w[owners] / sizes[owners] / widths_hz
        snr = psd * gains[0, :, owners, np.arange(num_subchannels)].T  # (count, num_subchannels)
        snr /= radio.noise_psd_w_per_hz
        rates, order, end = np.zeros((1, count, num_clients)), owners.argsort(kind="stable"), sizes.cumsum()
        for client in np.flatnonzero(sizes).tolist():
            own = order[end[client] - sizes[client] : end[client]]  # ascending
            rates[0, :, client] = radio.rate.rates(snr.take(own, axis=1), widths_hz[own])
        return rates
