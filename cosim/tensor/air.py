"""The air of many channels: rates of the same transfers under other settings, seeds and grants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cosim.errors import ScenarioError
from cosim.kernel.job import BlockRate, ConstantRate, Rate
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import weakest_rates
from cosim.tensor.drain import NEVER, finish_blocks, finish_constant
from cosim.tensor.draws import Air, Draws, Flow, bandwidths_of
from cosim.tensor.seldom import Seldom
from cosim.units import Floats, Ints

MOST_BYTES = 128 << 20
"""Of the rates of one chunk of channels; where they take more, the chunk is halved."""

_ROOM = 1.4  # of each table, in blocks that are worked out at first
_MARGIN = 1.04  # of blocks beyond those that a channel needs if it goes on as it has
_MOST_BLOCKS = 1 << 22  # of one transfer
_WINDOW = 64  # blocks of one transfer that are looked at together, as rates are there already


class TooLongError(Exception):
    """The rates of a chunk of channels take too much memory."""


class Rates:
    """The rates of some flows in some channels, block by block, worked out as far as each channel gets.

    Parameters
    ----------
    airs
        The channels; all have blocks of one length, or none.
    flows
        What is sent on.
    links
        By name, the links of the scheme.
    draws
        What is drawn.
    horizon_ns
        How far ahead rates are worked out at first; a channel that needs more has as many more as it will
        need if it goes on as it has.
    seldom
        Flows whose rates are worked out when they are needed, where channels are alike enough.

    Attributes
    ----------
    reached
        The share of its time after which the run that was played was where the channels are.

    Raises
    ------
    TooLongError
        If several channels take too much memory together.
    ScenarioError
        If one does by itself.
    """

    def __init__(
        self,
        airs: Sequence[Air],
        flows: Sequence[Flow],
        links: Mapping[str, Link],
        draws: Draws,
        horizon_ns: int,
        seldom: Collection[int] = (),
    ) -> None:
        self._airs, self._flows, self._links, self._draws = airs, flows, links, draws
        self._channels = {
            number: Channel.build(air.radio, draws.num_clients, air.seed)
            for number, air in enumerate(airs)
            if not air.radio.is_plain
        }
        self.block_ns = shortest_block_ns(airs[0].radio)
        # one that is asked itself is asked for what is used, as the event kernel asks it
        self._asked = self._channels.get(0) if len(airs) == 1 and self.block_ns is not None else None
        self._seldom = None
        if seldom and self.block_ns is not None:
            self._seldom = Seldom.of(airs, [flows[one] for one in seldom], draws)
        self._number = np.full(len(flows), -1)  # of a flow among those
        if self._seldom is not None:
            self._number[list(seldom)] = np.arange(len(seldom))
        self._horizon = first = 1
        if self.block_ns is not None and self._asked is None:
            self._horizon = first = horizon_ns // self.block_ns + 1
        # of each channel a table of the other flows, one behind the other: where it begins, how wide it
        # is, and how many of its blocks are known
        self._row = np.cumsum(self._number < 0) - 1
        self._num_rows, room = int(self._row[-1]) + 1, first if len(airs) == 1 else int(_ROOM * first)
        self._widths = np.full(len(airs), room)
        self._begins = np.arange(len(airs)) * self._num_rows * room
        self._known = np.zeros(len(airs), dtype=np.int64)
        self._used, self.reached = len(airs) * self._num_rows * room, 1.0
        self._refuse_beyond(room)
        self._rates = np.empty(self._used * 3 // 2)  # what is not used is no memory
        self._of_flow: dict[int, Rate] = {}
        self._known_bands: dict[tuple[int, ...], list[_Band]] = {}
        for number in range(len(airs)) if self._asked is None else ():
            self._extend(number, first)

    def finish(self, flows: Ints, bits: Ints, start_ns: Ints) -> Ints:
        """Return when transfers end that begin at these instants, ns.

        Parameters
        ----------
        flows, bits
            The flow of each and its size, shape (num,), or (num, num_channels).
        start_ns
            Shape (num, num_channels).
        """
        shape, num_channels = start_ns.shape, len(self._airs)
        if num_channels == 1:
            asked = zip(flows.ravel().tolist(), bits.ravel().tolist(), start_ns.ravel().tolist(), strict=True)
            return np.array([self.finish_one(*one) for one in asked]).reshape(shape)
        wide = (np.broadcast_to(one.reshape(len(one), -1), shape).ravel() for one in (flows, bits))
        flow, size = (np.ascontiguousarray(one) for one in wide)
        channel = np.tile(np.arange(num_channels), shape[0])
        begin_ns = start_ns.ravel()
        if self.block_ns is None:
            rates = self._rates[self._begins[channel] + flow * self._widths[channel]]
            return finish_constant(size, rates, begin_ns).reshape(shape)

        begins, known = self._places(flow, channel)
        number = self._number[flow]
        is_seldom = number >= 0
        any_seldom = bool(is_seldom.any())

        def rates_at(which: Ints, blocks: Ints) -> Floats:
            if not any_seldom or not (rare := is_seldom[which]).any():
                return table(which, blocks)
            rates, some = np.empty(len(which)), which[rare]
            assert self._seldom is not None
            rates[rare] = self._seldom.rates(number[some], channel[some], blocks[rare])
            rates[~rare] = table(which[~rare], blocks[~rare])
            return rates

        def table(which: Ints, blocks: Ints) -> Floats:
            nonlocal begins, known
            is_short = blocks >= known[which]
            if is_short.any():
                of = channel[which]
                for number in np.unique(of[is_short]).tolist():
                    last = int(blocks[of == number].max())
                    self._extend(number, self._needed(last))
                begins, known = self._places(flow, channel)
            return np.asarray(self._rates[begins[which] + blocks])

        return finish_blocks(size, begin_ns, self.block_ns, rates_at, _MOST_BLOCKS).reshape(shape)

    def finish_one(self, flow: int, bits: int, start_ns: int) -> int:
        """Return when a transfer ends in the only channel, ns: numbers are quicker than arrays of one."""
        if bits <= 0 or start_ns >= NEVER:
            return start_ns
        if flow not in self._of_flow:
            self._of_flow[flow] = self._only_rate(flow)
        end_ns = self._of_flow[flow].finish_ns(bits, start_ns)
        return NEVER if end_ns is None else min(end_ns, NEVER)

    def _only_rate(self, flow: int) -> Rate:
        if self.block_ns is None:
            return ConstantRate(float(self._table(0)[flow, 0]))
        return BlockRate(self.block_ns, partial(self._only_rates, flow), _WINDOW)

    def _only_rates(self, flow: int, first: int, count: int) -> Floats:
        """Return the rates of a flow in some blocks of the only channel, shape (count,)."""
        if self._asked is not None:
            return self._weakest(self._asked, 0, flow, first, count)
        end = first + count
        if end > self._known[0]:  # whole horizons, so that what is drawn serves other settings
            needed = max(end, min(self._needed(first), 2 * end))  # what is reached early on says little
            self._extend(0, -(-needed // self._horizon) * self._horizon)
        return self._table(0)[flow, first:end]

    def _needed(self, last: int) -> int:
        """Return how many blocks are worked out for a channel that has come to this one."""
        return max(int(_MARGIN * last / self.reached), last + last // 8) + 1

    def _places(self, flow: Ints, channel: Ints) -> tuple[Ints, Ints]:
        """Return where the rates of each flow in each channel begin, and how many are known."""
        return self._begins[channel] + self._row[flow] * self._widths[channel], self._known[channel]

    def _extend(self, number: int, num_blocks: int) -> None:
        """Work out the rates of all flows in one channel up to so many blocks."""
        first = int(self._known[number])
        if num_blocks > self._widths[number]:
            self._move(number, num_blocks)
        table = self._table(number)
        for flows, rates in self._of_blocks(number, self._airs[number], first, num_blocks - first):
            for row, own in zip(self._row[flows].tolist(), rates, strict=True):
                table[row, first:num_blocks] = own
        self._known[number] = num_blocks

    def _table(self, number: int) -> Floats:
        """Return the rates of one channel, shape (num_rows, num_blocks)."""
        begin, width = int(self._begins[number]), int(self._widths[number])
        return self._rates[begin : begin + self._num_rows * width].reshape(self._num_rows, width)

    def _move(self, number: int, num_blocks: int) -> None:
        """Give the table of a channel a place for more blocks, behind all others."""
        begin, known = self._used, int(self._known[number])
        self._used += self._num_rows * num_blocks
        self._refuse_beyond(num_blocks)
        if self._used > len(self._rates):
            grown = np.empty(max(self._used, len(self._rates) * 3 // 2))
            grown[:begin] = self._rates[:begin]
            self._rates = grown
        before = self._table(number)[:, :known]
        self._begins[number], self._widths[number] = begin, num_blocks
        self._table(number)[:, :known] = before

    def _refuse_beyond(self, num_blocks: int) -> None:
        """Refuse tables that take too much memory, as one has so many blocks."""
        if self._used * np.dtype(np.float64).itemsize <= MOST_BYTES:
            return
        if len(self._airs) > 1:
            raise TooLongError
        raise ScenarioError(
            f"radio.fading: the tensor clock keeps the rates of {num_blocks} blocks for each of "
            f"{len(self._flows)} transmitters, more than fit into memory; take a longer coherence_time_s, or "
            'engine = "events".'
        )

    def _of_blocks(self, number: int, air: Air, first: int, count: int) -> Iterable[tuple[list[int], Floats]]:
        """Return the rates of one channel in some blocks, for flows that can be worked out together."""
        channel = self._channels.get(number)
        if channel is not None:
            for flow in range(len(self._flows)):
                yield [flow], self._weakest(channel, number, flow, first, count)[np.newaxis]
            return
        for band in self._bands(air):
            rates = self._of_band(air, band, first, count)
            yield (band.flows[:1], rates.min(axis=0)[np.newaxis]) if band.is_group else (band.flows, rates)

    def _weakest(self, channel: Channel, number: int, flow: int, first: int, count: int) -> Floats:
        """Return the rates of a flow in some blocks, as a channel itself knows them, shape (count,)."""
        (link, members), air = self._flows[flow], self._airs[number]
        grant = air.grant((link, members))
        return weakest_rates(air.radio.medium, channel, self._links[link], members, grant, first, count)

    def _bands(self, air: Air) -> list["_Band"]:
        """Return what flows are sent on, those together whose subchannels are equally wide."""
        key = (id(air.grants), *(id(air.radio.link(link)) for link in self._links))
        if key not in self._known_bands:
            alike: dict[tuple[str, bytes, bool], list[int]] = {}
            found = []
            for index, (link, members) in enumerate(self._flows):
                grant = air.grant((link, members))
                if self._number[index] >= 0:
                    continue
                if len(members) > 1:
                    found.append(_Band.of(air, link, [index] * len(members), members, [grant] * len(members)))
                else:
                    widths = bandwidths_of(air.radio, link, grant).tobytes()
                    alike.setdefault((link, widths, grant.bandwidths_hz is not None), []).append(index)
            for (link, *_), some in alike.items():
                clients = [self._flows[index][1][0] for index in some]
                grants = [air.grant(self._flows[index]) for index in some]
                found.append(_Band.of(air, link, some, clients, grants))
            self._known_bands[key] = found
        return self._known_bands[key]

    def _of_band(self, air: Air, band: "_Band", first: int, count: int) -> Floats:
        """Return the rates of clients whose subchannels are equally wide, shape (num_clients, count).

        The very operations of :meth:`cosim.radio.channel.Channel.rates`; blocks are contiguous, as few
        subchannels are many short loops.
        """
        radio, seed = air.radio, air.radio.air_seed(air.seed)
        means = self._draws.mean_gains(radio, seed)[list(band.clients)]
        drawn = self._draws.fading(radio, seed, band.link, band.clients, band.columns, first, count)
        gains = means[:, np.newaxis] * drawn  # (num_columns, num_clients, count)
        if band.is_split:
            wide = np.broadcast_to(gains.transpose(1, 2, 0), (*gains.shape[1:], len(band.columns[0])))
            gains = np.ascontiguousarray(wide).mean(axis=2)
        snr = gains * band.psd.T[:, :, np.newaxis]
        snr /= radio.noise_psd_w_per_hz
        return np.asarray(radio.rate.rates(snr.transpose(1, 2, 0), band.bandwidths_hz))


@dataclass(frozen=True, eq=False)
class _Band:
    """What clients are granted on a link whose subchannels are equally wide.

    Attributes
    ----------
    flows, clients
        A flow for each client; the same for all of a group that is sent to at once.
    columns
        Of each, the subchannels that it sees: its own, or all where the band was split otherwise.
    psd
        What is sent, W/Hz, shape (num_clients, num_owned).
    """

    link: str
    flows: list[int]
    clients: Sequence[int]
    columns: list[Ints]
    bandwidths_hz: Floats
    psd: Floats
    is_split: bool

    @classmethod
    def of(
        cls, air: Air, link: str, flows: list[int], clients: Sequence[int], grants: Sequence[Grant]
    ) -> "_Band":
        """Return it from the grants."""
        is_split, widths_hz = grants[0].bandwidths_hz is not None, bandwidths_of(air.radio, link, grants[0])
        every = np.arange(air.radio.link(link).num_subchannels)
        columns = [every if is_split else grant.subchannels for grant in grants]
        psd = np.array([grant.tx_power_w for grant in grants]) / widths_hz
        return cls(link, flows, clients, columns, widths_hz, psd, is_split)

    @property
    def is_group(self) -> bool:
        """Whether all of the clients are sent to at once, at the rate of the weakest."""
        return len(self.flows) > 1 and self.flows[0] == self.flows[1]
