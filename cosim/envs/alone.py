"""Rounds of few copies of a cell, one by one in plain numbers: they are quicker than arrays of few."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cosim.envs.program import LONGEST_NS, MOST_BLOCKS, NEVER_ENDS, TAKES_LONG, Played, Program, Rates
from cosim.errors import AllocationError
from cosim.kernel.job import BlockRate
from cosim.tensor.drain import finish_one, lasts_ns
from cosim.units import Floats, Ints

FEW = 8
"""Copies that are quicker one by one."""

_FOR_EVER = 1 << 62  # ns of a block that does not end


def play_few(
    program: Program,
    copies: Ints,
    begin_ns: Ints,
    block_ns: int | None,
    rates: Rates,
    upload_bits: Ints | None = None,
) -> Played:
    """Return what :meth:`cosim.envs.program.Program.play` does."""
    bits, now = program.bits_of(len(copies), upload_bits), rates.first(copies)
    played = [
        _Alone(program, bits[row].tolist(), int(begin_ns[row]), block_ns, now[row], partial(rates.over, copy))
        for row, copy in enumerate(copies.tolist())
    ]
    airtime_ns = np.array([one.airtime_ns for one in played], dtype=np.int64).reshape(now.shape)
    return Played(np.array([one.end_ns for one in played]), airtime_ns, program.sent(bits))


class _Alone:
    """A round in one copy; a flow is a client on a link.

    Parameters
    ----------
    program
        Of the round.
    bits
        What each client sends at each place.
    begin_ns, block_ns
        When it begins, and how long rates hold; None for ever.
    now
        Rates in the block in which it begins, bit/s, shape (num_links, num_clients).
    over
        ``over(first, count)``: those of other blocks, shape (count, num_links, num_clients).

    Attributes
    ----------
    end_ns, airtime_ns
        When it ends, and how long each flow sends.
    """

    def __init__(
        self,
        program: Program,
        bits: Sequence[Sequence[int]],
        begin_ns: int,
        block_ns: int | None,
        now: Floats,
        over: Callable[[int, int], Floats],
    ) -> None:
        self._program, self._bits, self._over = program, bits, over
        self._block_ns = _FOR_EVER if block_ns is None else block_ns
        self._known = [[rate] for rate in now.ravel().tolist()]  # of each flow, from the first block on
        self.end_ns, self.airtime_ns = begin_ns, [0] * len(self._known)
        self._first = begin_ns // self._block_ns
        self._held, self._lasts_ns, self._sent = self._first, *self._holding(self._first)
        if any(ns > LONGEST_NS for sent in self._sent for _, ns in sent):
            raise AllocationError(TAKES_LONG)
        round_ns = sum(times * sum(self._lasts_ns[one:after]) for one, after, times in program.parts)
        self._foreseen = (begin_ns + round_ns) // self._block_ns  # the last block, if these rates held
        for one, after, times in program.parts:
            self._part(one, after, times)

    def _holding(self, block: int) -> tuple[list[int], list[list[tuple[int, int]]]]:
        """Return how long each barrier takes while the rates of a block hold, ns, and what is sent in it."""
        every_ns, all_sent = [], []
        for chains, joint_ns in zip(self._program.chains, self._program.joint_ns.tolist(), strict=True):
            longest_ns, sent = 0, []
            for client, chain in enumerate(chains):
                own_ns = 0
                for compute_ns, flow, place in chain:
                    own_ns += compute_ns
                    if flow >= 0 and (bits := self._bits[place][client]):
                        ns = min(lasts_ns(bits, self._rate(flow, block)), LONGEST_NS + 1)
                        own_ns += ns
                        sent.append((flow, ns))
                longest_ns = max(longest_ns, own_ns)
            every_ns.append(longest_ns + joint_ns)
            all_sent.append(sent)
        return every_ns, all_sent

    def _part(self, begin: int, after: int, left: int) -> None:
        """Play a part: as often as it fits into a block in one go, else transfer by transfer."""
        may_fit = True
        while left:
            if may_fit:
                block = self.end_ns // self._block_ns
                if block != self._held:
                    self._held, self._lasts_ns, self._sent = block, *self._holding(block)
                once_ns = sum(self._lasts_ns[begin:after])
                room_ns = (block + 1) * self._block_ns - self.end_ns
                times = min(room_ns // max(once_ns, 1), left)
                may_fit = times > 0 or self._block_ns > once_ns
                for flow, ns in (one for sent in self._sent[begin:after] for one in sent if times):
                    self.airtime_ns[flow] += times * ns
                self.end_ns += times * once_ns
                left -= times
                if not left:
                    return
            for number in range(begin, after):
                self._barrier(number)
            left -= 1

    def _barrier(self, number: int) -> None:
        latest_ns = self.end_ns
        for client, chain in enumerate(self._program.chains[number]):
            now_ns = self.end_ns
            for compute_ns, flow, place in chain:
                now_ns += compute_ns
                if flow >= 0 and (bits := self._bits[place][client]):
                    end_ns = self._finish(flow, bits, now_ns)
                    self.airtime_ns[flow] += end_ns - now_ns
                    now_ns = end_ns
            latest_ns = max(latest_ns, now_ns)
        self.end_ns = latest_ns + int(self._program.joint_ns[number])

    def _finish(self, flow: int, bits: int, start_ns: int) -> int:
        """Return when a transfer ends."""
        known, rate = self._known[flow], partial(self._rate, flow)
        end_ns = finish_one(bits, start_ns, self._block_ns, known, self._first, rate, MOST_BLOCKS)
        if end_ns is None:
            link, client = divmod(flow, self._program.bits.shape[1])
            exact = BlockRate(self._block_ns, lambda first, count: self._over(first, count)[:, link, client])
            end_ns = exact.finish_ns(bits, start_ns)
        if end_ns is None:
            raise AllocationError(NEVER_ENDS)
        return end_ns

    def _rate(self, flow: int, block: int) -> float:
        """Return the rate of a flow in a block."""
        known = self._known[flow]
        if (have := len(known)) <= block - self._first:
            until = max(block, self._foreseen, self._first + have + have // 4) + 1
            more = self._over(self._first + have, until - self._first - have)
            for one, rates in zip(self._known, more.reshape(len(more), -1).T.tolist(), strict=True):
                one += rates
        return known[block - self._first]
