"""A band that one client has at a time, with very many clients: rates are drawn where they will be needed.

The start of each transfer is the end of the one before, and its rate is that of the block it starts in. So
starts are first foreseen, rates of the blocks foreseen are drawn in one go, and the transfers then taken one
after the other, exactly; the few blocks that were not foreseen are drawn by themselves.
"""

import numpy as np

from cosim.errors import ScenarioError
from cosim.kernel.job import BlockRate
from cosim.tensor.drain import LARGEST, finish_constant, finish_one
from cosim.tensor.link_rates import LinkRates
from cosim.tensor.queues import served
from cosim.units import NS_PER_S, Floats, Ints

_AHEAD = 512  # transfers that are foreseen together
_MOST_ROWS = 8192  # that are drawn together
_MOST_MISSED = 24  # blocks that were not foreseen, before the next are foreseen again
_MOST_BLOCKS = 1 << 16  # of one transfer
_NEW = 0.5  # weight of the latest transfers in how long the next are taken to last

NEVER_ENDS = 'radio: a transfer never ends, and the event kernel says which; take engine = "events".'


class InTurn:
    """Transfers over one link, one at a time, in order of arrival; ties in the order of the clients.

    Parameters
    ----------
    rates
        Of the link.
    block_ns
        How long they hold; None for ever.
    """

    def __init__(self, rates: LinkRates, block_ns: int | None) -> None:
        self._rates, self._block_ns = rates, block_ns
        self._plain = rates.before_fading()
        self._longer = 1.0  # than foreseen without fading

    def taken(self, clients: Ints, bits: Ints, asked_ns: Ints) -> tuple[Ints, Ints]:
        """Return when the transfer of each of some clients, ascending, begins and ends, ns.

        Raises
        ------
        ScenarioError
            If one never ends.
        """
        if self._block_ns is None:
            nothing = np.zeros_like(clients)
            lasts = finish_constant(bits, self._rates.of(clients, nothing), nothing)
            start_ns = served(asked_ns[:, np.newaxis], lasts, 1)[:, 0]
            return start_ns, start_ns + lasts
        order = np.argsort(asked_ns, kind="stable")
        walk = _Walk(self, clients[order], bits[order], asked_ns[order], self._block_ns)
        starts, ends = np.empty_like(asked_ns), np.empty_like(asked_ns)
        starts[order], ends[order] = walk.walked()
        return starts, ends


class _Walk:
    """One queue, from the first to the last."""

    def __init__(self, queue: InTurn, clients: Ints, bits: Ints, asked_ns: Ints, block_ns: int) -> None:
        self._queue, self._rates, self._block_ns = queue, queue._rates, block_ns
        self._clients, self._bits, self._asked = clients, bits, asked_ns
        with np.errstate(divide="ignore"):
            self._plain_ns = bits / queue._plain[clients] * NS_PER_S
        self._num_missed = 0

    def walked(self) -> tuple[Ints, Ints]:
        """Return when each begins and ends."""
        count = len(self._clients)
        starts, ends = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        at, free_ns = 0, 0
        while at < count:
            first, rates = self._foreseen(at, free_ns)
            begun, free_ns = self._take(at, free_ns, first, rates, starts, ends)
            lasted, plain = (ends[at:begun] - starts[at:begun]).sum(), self._plain_ns[at:begun].sum()
            queue, at = self._queue, begun
            queue._longer += _NEW * (float(lasted / plain) - queue._longer) if plain else 0.0
        return starts, ends

    def _foreseen(self, at: int, free_ns: int) -> tuple[list[int], list[list[float]]]:
        """Return of the next transfers the first block foreseen, and the rates from it on."""
        lasts = np.ceil(np.minimum(self._plain_ns[at : at + _AHEAD] * self._queue._longer, LARGEST))
        before = np.cumsum(lasts) - lasts
        asked = np.maximum(self._asked[at : at + _AHEAD], free_ns)
        starts = np.maximum.accumulate(asked - before) + before
        first = (starts // self._block_ns).astype(np.int64)
        counts = ((starts + lasts) // self._block_ns).astype(np.int64) - first + 1
        counts = np.minimum(counts, _MOST_ROWS)
        upto = max(int(np.searchsorted(np.cumsum(counts), _MOST_ROWS, side="right")), 1)
        first, counts = first[:upto], counts[:upto]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        clients = np.repeat(self._clients[at : at + upto], counts)
        rates = self._rates.of(clients, np.repeat(first, counts) + within)
        return first.tolist(), [one.tolist() for one in np.split(rates, ends[:-1])]

    def _take(
        self, at: int, free_ns: int, first: list[int], rates: list[list[float]], starts: Ints, ends: Ints
    ) -> tuple[int, int]:
        """Take transfers as foreseen; returns which is next, and when the band is free for it."""
        self._num_missed, many = 0, len(first)
        some = slice(at, at + many)
        each = zip(self._bits[some].tolist(), self._asked[some].tolist(), first, rates, strict=True)
        for place, (bits, asked_ns, block, own) in enumerate(each, start=at):
            start_ns = max(asked_ns, free_ns)
            free_ns = self._finish(place, bits, start_ns, block, own)
            starts[place], ends[place] = start_ns, free_ns
            if self._num_missed > _MOST_MISSED:
                return place + 1, free_ns
        return at + many, free_ns

    def _finish(self, place: int, bits: int, start_ns: int, first: int, rates: list[float]) -> int:
        """Return when a transfer ends."""

        def beyond(block: int) -> float:
            self._num_missed += 1
            return float(self._rates.over(int(self._clients[place]), block, 1)[0])

        end_ns = finish_one(bits, start_ns, self._block_ns, rates, first, beyond, _MOST_BLOCKS)
        return self._exactly(place, bits, start_ns) if end_ns is None else end_ns

    def _exactly(self, place: int, bits: int, start_ns: int) -> int:
        """Return an end as the event kernel finds it."""
        client = int(self._clients[place])

        def rates(first: int, count: int) -> Floats:
            return self._rates.over(client, first, count)

        end_ns = BlockRate(self._block_ns, rates).finish_ns(bits, start_ns)
        if end_ns is None:
            raise ScenarioError(NEVER_ENDS)
        return end_ns
