"""The air of many copies of a cell: what is drawn of each, and the rates that decisions have on it.

The subchannels of all links are side by side, in the order of the links.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from cosim.control.state import LinkState
from cosim.radio.large_scales import LargeScales
from cosim.radio.settings import Radio
from cosim.rng import Stream, stream
from cosim.tensor.philox import Shared, Tables
from cosim.units import Floats, Ints

_WINDOW = 8  # blocks that are drawn together and kept, as rounds and what is seen before them meet


class Airs:
    """The air of each copy, by its seed.

    Parameters
    ----------
    radio
        Settings of all copies; what they draw of a block depends on that block alone (``is_plain``).
    links
        Those that take time.
    num_copies, num_clients
        How many.

    Attributes
    ----------
    means
        Gains before fading, shape (num_copies, num_clients).
    """

    def __init__(self, radio: Radio, links: Sequence[LinkState], num_copies: int, num_clients: int) -> None:
        self.radio, self._links, self.num_clients = radio, links, num_clients
        self.means = np.ones((num_copies, num_clients))
        self.widths_hz = np.concatenate([np.zeros(0), *(one.bandwidths_hz for one in links)])
        ends = np.cumsum([0, *(one.num_subchannels for one in links)]).tolist()
        self.columns = [slice(begin, end) for begin, end in pairwise(ends)]
        self._windows = np.full((num_copies, 2), -1)
        self._kept = np.zeros((num_copies, 2 * _WINDOW, num_clients, len(self.widths_hz)))
        self._streams: list[list[list[Stream]]] = [[] for _ in range(num_copies)]  # by copy and link

    def begin(self, copy: int, seed: int) -> None:
        """Give a copy another air."""
        self.means[copy] = LargeScales(self.radio, self.num_clients, seed).at(0).mean_gains[0]
        root = stream(seed, "radio", "fading")
        each = [root.child(link.name) for link in self._links]
        self._windows[copy] = -1
        self._streams[copy] = [[one.child(client) for client in range(self.num_clients)] for one in each]

    def gains(self, copies: Ints, blocks: Ints) -> Floats:
        """Return the gains of copies in a block each, shape (num, num_clients, num_subchannels)."""
        self._keep(copies, blocks)
        return np.asarray(self._kept[copies, blocks % (2 * _WINDOW)])

    def owned(self, copies: Ints, first: Ints, count: int, owners: Ints) -> Floats:
        """Return the gains of owners over some blocks, shape (num, count, num_subchannels).

        Parameters
        ----------
        copies, first
            Copies and the first block of each, shape (num,).
        owners
            Who has each subchannel, shape (num, num_subchannels).
        """
        if count > _WINDOW:
            each = zip(copies.tolist(), first.tolist(), owners, strict=True)
            return np.stack([self._drawn_for(copy, begin, count, own) for copy, begin, own in each])
        for block in (first, first + count - 1):
            self._keep(copies, block)
        blocks, every = first[:, np.newaxis] + np.arange(count), np.arange(owners.shape[1])
        at = copies[:, np.newaxis, np.newaxis], (blocks % (2 * _WINDOW))[:, :, np.newaxis]
        return np.asarray(self._kept[*at, owners[:, np.newaxis], every])

    def _keep(self, copies: Ints, blocks: Ints) -> None:
        """Draw the windows of blocks, where they are not there."""
        windows = blocks // _WINDOW
        missing = self._windows[copies, windows % 2] != windows
        if missing.any():
            copies, windows = copies[missing], windows[missing]
            within = (windows % 2 * _WINDOW)[:, np.newaxis] + np.arange(_WINDOW)
            for number, columns in enumerate(self.columns):
                self._kept[copies[:, np.newaxis], within, :, columns] = self._drawn(number, copies, windows)
            self._windows[copies, windows % 2] = windows

    def _drawn(self, number: int, copies: Ints, windows: Ints) -> Floats:
        """Return the gains of copies in a window each, shape (num, _WINDOW, num_clients, num_subchannels)."""
        fading, width = self.radio.fading, self._links[number].num_subchannels
        count = 1 if fading.block_ns is None else _WINDOW
        streams = [one for copy in copies.tolist() for one in self._streams[copy][number]]
        first = (windows * count).repeat(self.num_clients).tolist()
        rows = Tables.of(streams, [np.arange(width)] * len(streams), first, count)
        drawn = fading.draw(rows, Tables.OWN, rows.num_rows, self._width(number))
        drawn = drawn.reshape(len(copies), self.num_clients, count, -1).swapaxes(1, 2)
        return np.asarray(self.means[copies][:, np.newaxis, :, np.newaxis] * drawn)

    def _drawn_for(self, copy: int, first: int, count: int, owners: Ints) -> Floats:
        """Return the gains of the owners of subchannels of one copy, shape (count, num_subchannels)."""
        found = np.empty((count, len(owners)))
        for number, columns in enumerate(self.columns):
            own = owners[columns]
            chance = Shared.of(self._streams[copy][number], own)
            drawn = self.radio.fading.draw(chance, first, count, self._width(number))
            np.multiply(self.means[copy, own], drawn, out=found[:, columns])
        return found

    def _width(self, number: int) -> int:
        """Return how many gains a link draws for a client and block."""
        return 1 if self.radio.fading.selectivity == "flat" else self._links[number].num_subchannels


class Band:
    """Who has the subchannels of all links in each copy, and what their powers get out of gains.

    Parameters
    ----------
    airs
        Of the copies.
    owners
        Of each link, the client that has each subchannel, shape (num_copies, num_subchannels).
    powers_w
        Of each link, every client's power over all that it has, shape (num_copies, num_clients).
    """

    def __init__(self, airs: Airs, owners: Sequence[Ints], powers_w: Sequence[Floats]) -> None:
        self._airs, self.num_links = airs, len(owners)
        none = np.zeros((len(airs.means), 0), dtype=np.int64)
        self.owners = np.concatenate([none, *owners], axis=1)
        beyond = np.repeat(np.arange(self.num_links) * airs.num_clients, [one.shape[1] for one in owners])
        self._owners = self.owners + beyond  # of each link by themselves
        num, num_owners = len(self.owners), self.num_links * airs.num_clients
        copies = np.arange(num)[:, np.newaxis]
        of_all = self._owners + copies * num_owners
        self._sizes = np.bincount(of_all.ravel(), minlength=num * num_owners).reshape(num, num_owners)
        shares_w = np.concatenate([none, *powers_w], axis=1) / np.maximum(self._sizes, 1)
        self._psd = shares_w[copies, self._owners] / airs.widths_hz

    def rates(self, copies: Ints, own_gains: Floats) -> Floats:
        """Return the rates of copies, bit/s, shape (num, count, num_links, num_clients).

        By the operations of :meth:`cosim.radio.channel.Channel.rates`, to its bits.

        Parameters
        ----------
        own_gains
            Of the owner of each subchannel, shape (num, count, num_subchannels).
        """
        snr = self._psd[copies, np.newaxis] * own_gains
        snr /= self._airs.radio.noise_psd_w_per_hz
        num, count, _ = snr.shape
        model = self._airs.radio.rate
        rates = (
            self._added(copies, model.per_subchannel(snr, self._airs.widths_hz))
            if (model.adds_subchannels)
            else self._one_by_one(copies, snr)
        )
        return rates.reshape(num, count, self.num_links, self._airs.num_clients)

    @cached_property
    def _places(self) -> tuple[Ints, Ints]:
        """Where each subchannel is among those of all owners, one behind the other, each behind a zero.

        And where each owner begins.
        """
        order, copies = (
            self._owners.argsort(axis=1, kind="stable"),
            np.arange(len(self._owners))[:, np.newaxis],
        )
        places = np.empty_like(order)
        places[copies, order] = self._owners[copies, order] + np.arange(1, order.shape[1] + 1)
        begins = self._sizes.cumsum(axis=1) - self._sizes + np.arange(self._sizes.shape[1])
        return places, begins

    def _added(self, copies: Ints, each: Floats) -> Floats:
        """Return what the subchannels of every owner add up to, shape (num, count, num_owners).

        A sum over an axis begins with a zero, and ``reduceat`` with its first number: with a zero in front
        both have the same bits.
        """
        places, begins = (one[copies] for one in self._places)
        num, count, num_subchannels = each.shape
        width = num_subchannels + begins.shape[1]
        runs = np.zeros((num, count, width))
        runs[np.arange(num)[:, np.newaxis], :, places] = each.swapaxes(1, 2)
        at = begins[:, np.newaxis] + width * np.arange(num * count).reshape(num, count, 1)
        return np.add.reduceat(runs.ravel(), at.ravel()).reshape(at.shape)

    def _one_by_one(self, copies: Ints, snr: Floats) -> Floats:
        """Return the same by the rate of each grant."""
        rates = np.zeros((*snr.shape[:2], self._sizes.shape[1]))
        for row, copy in enumerate(copies.tolist()):
            for owner in np.flatnonzero(self._sizes[copy]).tolist():
                own = np.flatnonzero(self._owners[copy] == owner)
                asked = snr[row].take(own, axis=1), self._airs.widths_hz[own]
                rates[row, :, owner] = self._airs.radio.rate.rates(*asked)
        return rates
