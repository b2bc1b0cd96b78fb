"""The stages of a round as arrays, evaluated for many copies of a cell to the nanosecond."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol, Self

import numpy as np

from cosim.compute.device import Device
from cosim.control.closed_form import durations_ns
from cosim.control.stages import CLIENT, Chain, Compute, Round, barriers_of
from cosim.control.state import CellState
from cosim.errors import AllocationError
from cosim.tensor.drain import NEVER, finish_blocks, finish_constant
from cosim.units import Bools, Floats, Ints


class Rates(Protocol):
    """The rates of copies, bit/s, from the block on in which a round of theirs begins."""

    def first(self, copies: Ints, /) -> Floats:
        """Return those in that block, shape (num, num_links, num_clients)."""

    def foresee(self, copies: Ints, blocks: Ints, /) -> None:
        """Take in which block of each copy is likely the last that is asked for."""

    def at(self, copies: Ints, blocks: Ints, /) -> Floats:
        """Return those of copies in blocks, shape (num, num_links, num_clients)."""

    def of(self, copies: Ints, blocks: Ints, links: Ints, clients: Ints, /) -> Floats:
        """Return those of a link and a client each, shape (num,)."""

    def over(self, copy: int, first: int, count: int, /) -> Floats:
        """Return those of one copy in some blocks, shape (count, num_links, num_clients)."""


UPLOAD = "adapter_upload"
"""Name of the transfers of which a share may be left out."""

MOST_BLOCKS = 1 << 22
"""Of one transfer."""

LONGEST_NS = 1 << 55
"""Of a transfer, a year: several of them add up without overflow."""

TAKES_LONG = "a transfer takes more than a year; give more power, or shorten the path."
NEVER_ENDS = "a transfer never ends; give more power, or shorten the path."


class Slot(NamedTuple):
    """What a client does at a place of its chain: it computes, then sends over a link, if any.

    ``varies``: how much is its upload of an adapter, of which a share may be left out.
    """

    compute_ns: int
    link: int
    bits: int
    varies: bool = False


class Played(NamedTuple):
    """What came of a round: when it ended, shape (num_copies,), and what each client sent over each link.

    Airtimes in ns, shape (num_copies, num_links, num_clients), and bits.
    """

    end_ns: Ints
    airtime_ns: Ints
    bits: Ints


@dataclass(frozen=True, eq=False)
class Program:
    """A round of barriers; places of chains are one behind the other.

    Attributes
    ----------
    compute_ns, link, bits, varies
        Of each place and client, shape (num_places, num_clients); link -1 where nothing is sent.
    first
        Where the places of each barrier begin, shape (num_barriers,).
    joint_ns
        What servers do once a barrier has fallen, shape (num_barriers,).
    parts
        First barrier, the one after the last, and how often the part is repeated.
    compute_j
        Energy of all that is computed in the round, J.
    num_links
        How many links take time.
    """

    compute_ns: Ints
    link: Ints
    bits: Ints
    varies: Bools
    first: Ints
    joint_ns: Ints
    parts: tuple[tuple[int, int, int], ...]
    compute_j: float
    num_links: int

    @classmethod
    def of(
        cls,
        round_: Round,
        state: CellState,
        clients: Sequence[Device],
        servers: Mapping[str, Device],
    ) -> Self:
        """Return the program of a round; links are numbered as in the state."""
        lasts_ns, numbers = durations_ns(state, {}), {name: place for place, name in enumerate(state.links)}
        slots: list[list[Slot]] = []
        first, joint, parts, energy_j = [], [], [], 0.0
        barriers = list(barriers_of(round_))
        for barrier, times, _ in barriers:
            chains = [_slots(chain, client, lasts_ns, numbers) for client, chain in enumerate(barrier.chains)]
            deepest = max(map(len, chains))
            first.append(len(slots))
            idle = Slot(0, -1, 0)
            slots += [[chain[at] if at < len(chain) else idle for chain in chains] for at in range(deepest)]
            joint.append(sum(int(lasts_ns(stage, None)) for stage in barrier.joint))
            everybody = (*((chain, one) for chain, one in zip(barrier.chains, clients, strict=True)),)
            for chain, client_device in everybody:
                energy_j += times * _energy_j(chain, client_device, servers)
            energy_j += times * _energy_j(barrier.joint, None, servers)
        at = 0
        for part in round_:
            count = len(list(barriers_of((part,))))
            parts.append((at, at + count, barriers[at][1]))
            at += count
        places = np.array(slots, dtype=np.int64)
        return cls(
            places[:, :, 0],
            places[:, :, 1],
            places[:, :, 2],
            places[:, :, 3] > 0,
            np.array(first),
            np.array(joint, dtype=np.int64),
            tuple(parts),
            energy_j,
            len(numbers),
        )

    @cached_property
    def _times(self) -> Ints:
        """How often each place comes up in a round, shape (num_places,)."""
        times = np.concatenate([np.full(after - begin, times) for begin, after, times in self.parts])
        return np.repeat(times, np.diff(np.append(self.first, len(self.bits))))

    @cached_property
    def chains(self) -> list[list[list[tuple[int, int, int]]]]:
        """By barrier and client: how long is computed, ns, the flow that is sent on, or -1, and the place.

        Flows are numbered link by link.
        """
        ends = np.append(self.first, len(self.bits)).tolist()
        clients = range(self.bits.shape[1])
        flow = np.where(self.link < 0, -1, self.link * len(clients) + np.array(clients))
        slots = [
            [(int(self.compute_ns[place, client]), int(flow[place, client]), place) for client in clients]
            for place in range(len(self.bits))
        ]
        return [
            [[slots[place][client] for place in range(begin, end)] for client in clients]
            for begin, end in pairwise(ends)
        ]

    def bits_of(self, num_copies: int, upload_bits: Ints | None) -> Ints:
        """Return what is sent at each place, shape (num_copies, num_places, num_clients)."""
        bits = np.broadcast_to(self.bits, (num_copies, *self.bits.shape))
        return bits if upload_bits is None else np.where(self.varies, upload_bits[:, np.newaxis], bits)

    def sent(self, bits: Ints) -> Ints:
        """Return what is sent over each link in a round, shape (num_copies, num_links, num_clients)."""
        return self.over_links(bits * self._times[:, np.newaxis])

    def over_links(self, amounts: Ints) -> Ints:
        """Return amounts of places, shape (num_copies, num_places, num_clients), added up by link."""
        return np.stack(
            [(amounts * (self.link == number)).sum(axis=1) for number in range(self.num_links)], axis=1
        )

    def play(
        self,
        copies: Ints,
        begin_ns: Ints,
        block_ns: int | None,
        rates: Rates,
        upload_bits: Ints | None = None,
    ) -> Played:
        """Return what comes of a round in some copies, as the event kernel plays it.

        Parameters
        ----------
        copies
            Which, shape (num,).
        begin_ns
            When it begins in each, shape (num,).
        block_ns
            How long rates hold; None for ever.
        rates
            Of the copies.
        upload_bits
            What each uploads of its adapter, shape (num, num_clients); as the stages say without.

        Raises
        ------
        AllocationError
            If a transfer takes more than a year.
        """
        bits = self.bits_of(len(copies), upload_bits)
        each_ns, barrier_ns = self.constant(rates.first(copies), bits)
        if each_ns.max() > LONGEST_NS:
            raise AllocationError(TAKES_LONG)
        lasts_ns = sum(times * barrier_ns[:, one:after].sum(axis=1) for one, after, times in self.parts)
        end_ns = np.asarray(begin_ns + lasts_ns)
        airtime_ns = self.over_links(each_ns * self._times[:, np.newaxis])
        if block_ns is not None:
            beyond = np.flatnonzero(end_ns > (begin_ns // block_ns + 1) * block_ns)
            if len(beyond):
                rates.foresee(copies[beyond], end_ns[beyond] // block_ns)
                known = each_ns[beyond], barrier_ns[beyond]
                walk = _Walk(self, copies[beyond], begin_ns[beyond], block_ns, rates, bits[beyond], known)
                end_ns[beyond], airtime_ns[beyond] = walk.walked()
        return Played(end_ns, airtime_ns, self.sent(bits))

    def constant(self, rates: Floats, bits: Ints) -> tuple[Ints, Ints]:
        """Return the airtime of each place, and how long each barrier takes, at constant rates."""
        shape = len(rates), *self.bits.shape
        own = rates[:, self.link, np.arange(self.bits.shape[1])] if self.num_links else np.ones(shape)
        ends_ns = finish_constant(bits.ravel(), own.ravel(), np.zeros(bits.size, dtype=np.int64))
        airtime_ns = np.minimum(ends_ns, LONGEST_NS + 1).reshape(shape)
        chains_ns = np.add.reduceat(airtime_ns + self.compute_ns, self.first, axis=1)
        return airtime_ns, np.asarray(chains_ns.max(axis=2) + self.joint_ns)


class _Walk:
    """Rounds across edges of blocks: what fits into a block in one go, the others transfer by transfer.

    ``known`` is the airtime of each place, and how long barriers take, at the rates at the beginning.
    """

    def __init__(
        self,
        program: Program,
        copies: Ints,
        begin_ns: Ints,
        block_ns: int,
        rates: Rates,
        bits: Ints,
        known: tuple[Ints, Ints],
    ) -> None:
        self._program, self._copies, self._block_ns = program, copies, block_ns
        self._rates, self._bits = rates, bits
        self._now, self._block = begin_ns.copy(), begin_ns // block_ns
        self._each, self._lasts = known  # in that block
        self._airtime = np.zeros_like(self._each)
        self._ends = np.append(program.first, len(program.bits))

    def walked(self) -> tuple[Ints, Ints]:
        """Return the ends, and airtimes by link."""
        for begin, after, times in self._program.parts:
            self._part(begin, after, times)
        return self._now, self._program.over_links(self._airtime)

    def _part(self, begin: int, after: int, times: int) -> None:
        places = slice(self._ends[begin], self._ends[after])
        left, may_skip = np.full(len(self._now), times), True
        while len(on := np.flatnonzero(left)):
            if may_skip:
                self._enter(on)
                lasts_ns = self._lasts[on, begin:after].sum(axis=1)
                room_ns = (self._block[on] + 1) * self._block_ns - self._now[on]
                skip = np.minimum(room_ns // np.maximum(lasts_ns, 1), left[on])
                may_skip = bool((skip > 0).any()) or self._block_ns > int(lasts_ns.min())
                self._now[on] += skip * lasts_ns
                self._airtime[on, places] += skip[:, np.newaxis, np.newaxis] * self._each[on, places]
                left[on] -= skip
                on = on[left[on] > 0]
            for barrier in range(begin, after):
                self._barrier(barrier, on)
            left[on] -= 1

    def _enter(self, on: Ints) -> None:
        """Work out what holds in the blocks that these copies are in now."""
        block = self._now[on] // self._block_ns
        new = block != self._block[on]
        if new.any():
            which = on[new]
            self._block[which] = block[new]
            rates = self._rates.at(self._copies[which], block[new])
            self._each[which], self._lasts[which] = self._program.constant(rates, self._bits[which])

    def _barrier(self, number: int, on: Ints) -> None:
        if not len(on):
            return
        program = self._program
        num_clients = program.bits.shape[1]
        cursor = np.repeat(self._now[on, np.newaxis], num_clients, axis=1)
        copies = np.repeat(self._copies[on], num_clients)
        clients = np.tile(np.arange(num_clients), len(on))
        for place in range(self._ends[number], self._ends[number + 1]):
            cursor += program.compute_ns[place]
            links = np.tile(program.link[place], len(on))
            if (links < 0).all():
                continue

            def rates_of(which: Ints, blocks: Ints, links: Ints = links) -> Floats:
                return self._rates.of(copies[which], blocks, links[which], clients[which])

            bits, begin_ns = self._bits[on, place].ravel(), cursor.ravel()
            ends = finish_blocks(bits, begin_ns, self._block_ns, rates_of, MOST_BLOCKS)
            if ends.max() >= NEVER:
                raise AllocationError(NEVER_ENDS)
            self._airtime[on, place] += (ends - begin_ns).reshape(cursor.shape)
            cursor = ends.reshape(cursor.shape)
        self._now[on] = cursor.max(axis=1) + program.joint_ns[number]


def _slots(
    chain: Chain, client: int, lasts_ns: Callable[..., float], numbers: Mapping[str, int]
) -> list[Slot]:
    """Return what a client does in turn; a link that takes no time is passed over."""
    found, computes_ns = list[Slot](), 0
    for stage in chain:
        if isinstance(stage, Compute):
            computes_ns += int(lasts_ns(stage, client))
        elif stage.link in numbers and stage.bits:
            found.append(Slot(computes_ns, numbers[stage.link], stage.bits, stage.name == UPLOAD))
            computes_ns = 0
    return [*found, Slot(computes_ns, -1, 0)] if computes_ns or not found else found


def _energy_j(chain: Chain, client: Device | None, servers: Mapping[str, Device]) -> float:
    each = (stage for stage in chain if isinstance(stage, Compute))
    return sum(
        one.count * device.energy_j(one.flop, one.name)
        for one in each
        if (device := client if one.actor == CLIENT else servers[one.actor]) is not None
    )
