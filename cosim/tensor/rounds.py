"""Rounds of very many clients on one channel: stages evaluated for all clients at once, round after round.

Unlike :class:`~cosim.tensor.clock.TensorClock` it plays nothing first and keeps no spans: a scheme's stages
say a round, and what is left of it is its summary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from cosim.compute.device import Device
from cosim.control.stages import CLIENT, Barrier, Chain, Compute, Repeat, Round, Stage, Transfer
from cosim.errors import ScenarioError
from cosim.record.summaries import Phase, Work
from cosim.scenario.prepared import Prepared
from cosim.tensor.drain import NEVER, finish_blocks, finish_constant
from cosim.tensor.in_turn import NEVER_ENDS, InTurn
from cosim.tensor.lateness import joint_flop
from cosim.tensor.link_rates import LinkRates
from cosim.tensor.queues import served
from cosim.tensor.refusals import overlapping, refuse, refuse_others_sent, refuse_values
from cosim.units import NS_PER_S, Floats, Ints, seconds_to_ns
from cosim.world import World

T = TypeVar("T")

_MOST_BLOCKS = 1 << 16  # of one transfer


class RoundClock:
    """The rounds of a scenario, one after the other, each for all clients at once.

    Parameters
    ----------
    prepared
        What is run, ready.
    world
        Of it, in which the first decision has been applied, and nothing is played.

    Raises
    ------
    ScenarioError
        If it cannot promise the times of the event kernel; names the setting.

    Attributes
    ----------
    now_ns
        When the latest round has ended.
    num_in_time
        How many clients were never late in it, where there is a deadline.
    """

    def __init__(self, prepared: Prepared, world: World) -> None:
        scenario, task = prepared.scenario, prepared.task
        refuse_rounds([prepared])
        self._scheme, self._task, self._allocator = scenario.scheme, task, scenario.allocator
        self._radio, self._channel = scenario.radio, prepared.channel
        allocation = world.decisions.current
        assert allocation is not None
        self._setting, self._devices = allocation.setting, world.site.devices
        self._clients = [self._devices[name] for name in world.client_names]
        self._costs: dict[Compute, tuple[Ints, Floats]] = {}
        self._rates, self._queues = dict[str, LinkRates](), dict[str, InTurn]()
        self._powers_w: dict[str, Floats] = {}
        self._links, shared = {one.name: one for one in scenario.scheme.links}, overlapping(allocation.grants)
        for name in self._links.keys() & prepared.channel.modelled:
            grants = allocation.grants[name]
            medium = scenario.radio.medium
            self._rates[name] = LinkRates(prepared.channel, medium, self._links[name], grants)
            self._powers_w[name] = np.array([one.total_tx_power_w for one in grants])
            if name in shared:
                self._queues[name] = InTurn(self._rates[name], prepared.channel.block_ns)
        self.now_ns = 0
        self._cutoff, everybody = scenario.scheme.cutoff, len(self._clients)
        self._is_out = np.zeros(everybody, dtype=np.bool_)  # of this round, as it was late
        self._until = np.zeros(everybody, dtype=np.int64)  # when each has ended what it was late with
        self._flop: dict[str, int] = {}  # of joint stages, where anybody is out
        self.num_in_time = 0

    def play(self, round_: int) -> Work:
        """Return the spans of the next round.

        Raises
        ------
        ScenarioError
            If a transfer never ends, or an order of events cannot be promised.
        """
        stages: Round = self._scheme.phases(self._task, round_, self._setting, self._allocator.reports)
        found = _Spans()
        self._is_out[:] = False
        self._flop, self._round = {}, round_
        for part in stages:
            barriers, times = (part.barriers, part.times) if isinstance(part, Repeat) else ((part,), 1)
            for barrier in barriers * times:
                self._fall(barrier, found)
        return found.work(self._task.name, round_)

    def _fall(self, barrier: Barrier, found: "_Spans") -> None:
        """Let all chains of a barrier end, or a deadline pass, then its joint stages."""
        cut = self._cutoff
        races = cut is not None and any(stage.name == cut.joint for stage in barrier.joint)
        cursor = np.maximum(self.now_ns, self._until if races else 0)
        cursor = np.broadcast_to(cursor, len(self._clients)).copy()
        left = [(chain, self._in(chain, clients)) for chain, clients in _same(barrier.chains) if chain]
        racing = np.concatenate([some for _, some in left]) if races else None
        while left:
            for number, (chain, clients) in enumerate(left):
                while chain and self._place(chain[0]) is None:
                    self._alone(chain[0], clients, cursor, found)
                    chain = chain[1:]
                left[number] = chain, clients
            left = [one for one in left if one[0]]
            if left:
                left = self._meet(left, cursor, found)
        if racing is not None:
            self._race(racing, cursor[racing])
        else:
            self.now_ns = int(cursor.max())
        for stage in barrier.joint:
            assert isinstance(stage, Compute)
            self._joint(replace(stage, flop=self._flop.get(stage.name, stage.flop)), found)

    def _in(self, chain: Chain, clients: Ints) -> Ints:
        """Return those of some clients that are in the round, or take part in this again."""
        if self._cutoff is None or any(stage.name == self._cutoff.rejoins for stage in chain):
            return clients
        return clients[~self._is_out[clients]]

    def _race(self, clients: Ints, ends_ns: Ints) -> None:
        """Let those be out who are late, and go on at the deadline."""
        assert self._cutoff is not None
        deadline_ns, first_ns = self.now_ns + seconds_to_ns(self._cutoff.after_s), int(ends_ns.min())
        is_late = ends_ns >= max(deadline_ns, first_ns + 1)
        self.num_in_time = int((~is_late).sum())
        if not is_late.any():
            self.now_ns = int(ends_ns.max())
            return
        self.now_ns = max(deadline_ns, first_ns)
        self._is_out[clients[is_late]], self._until[clients[is_late]] = True, ends_ns[is_late]
        heard = frozenset(clients[~is_late].tolist())
        self._flop = joint_flop(self._scheme, self._task, self._setting, self._round, heard)

    def _place(self, stage: Stage) -> str | None:
        """Return where a stage may have to wait for other clients."""
        if isinstance(stage, Compute):
            return None if stage.actor == CLIENT else stage.actor
        return stage.link if stage.link in self._queues else None

    def _meet(
        self, left: Sequence[tuple[Chain, Ints]], cursor: Ints, found: "_Spans"
    ) -> list[tuple[Chain, Ints]]:
        """Let clients be served where all those are that will come there; returns what is left.

        Raises
        ------
        ScenarioError
            If there is no such place.
        """
        later = Counter(place for chain, _ in left for one in chain[1:] if (place := self._place(one)))
        place = next((one for chain, _ in left if (one := self._place(chain[0])) not in later), None)
        if place is None:
            raise ScenarioError(
                f"scheme.kind: clients of {self._scheme.kind!r} come to {self._place(left[0][0][0])} more "
                'than once between two barriers, in an order that depends on times; take engine = "events".'
            )
        here = [one for one in left if self._place(one[0][0]) == place]
        clients = np.concatenate([some for _, some in here])
        stages: list[Stage] = [chain[0] for chain, some in here for _ in some.tolist()]
        order = np.argsort(clients)
        self._served(place, [stages[one] for one in order.tolist()], clients[order], cursor, found)
        return [(chain[self._place(chain[0]) == place :], some) for chain, some in left]

    def _served(
        self, place: str, stages: Sequence[Stage], clients: Ints, cursor: Ints, found: "_Spans"
    ) -> None:
        """Serve clients, ascending, at one place in the order in which they come."""
        asked_ns, each = cursor[clients], list(_same(stages))
        amounts = np.zeros(len(clients), dtype=np.int64)  # bits to send, or ns to compute
        for stage, some in each:
            if isinstance(stage, Transfer):
                amounts[some] = stage.bits
            else:
                amounts[some] = _cost(self._devices[place], stage)[0]
        if place in self._queues:
            start_ns, end_ns = self._queues[place].taken(clients, amounts, asked_ns)
        else:
            capacity = self._devices[place].queue_capacity
            start_ns = served(asked_ns[:, np.newaxis], amounts, capacity)[:, 0]
            end_ns = start_ns + amounts
        for stage, some in each:
            times = asked_ns[some], start_ns[some], end_ns[some]
            if isinstance(stage, Transfer):
                self._sent(stage, clients[some], amounts[some], times, found)
            else:
                self._computed(stage, times, found)
        cursor[clients] = end_ns

    def _alone(self, stage: Stage, clients: Ints, cursor: Ints, found: "_Spans") -> None:
        """Let each of some clients do what is in nobody's way."""
        if isinstance(stage, Compute):
            if stage not in self._costs:
                each = [_cost(device, stage) for device in self._clients]
                self._costs[stage] = np.array([one for one, _ in each]), np.array([one for _, one in each])
            lasts, energy_j = self._costs[stage][0][clients], self._costs[stage][1][clients]
            for _ in range(stage.count):
                begun = cursor[clients]
                cursor[clients] += lasts
                times = begun, begun, cursor[clients]
                phase = Phase(stage.name, "compute", CLIENT, "")
                found.add(phase, clients, *times, 0.0, float(stage.flop), energy_j)
            return
        begun, bits = cursor[clients], np.full(len(clients), stage.bits)
        if stage.link in self._rates:
            cursor[clients] = self._finish(self._rates[stage.link], clients, bits, begun)
        self._sent(stage, clients, bits, (begun, begun, cursor[clients]), found)

    def _finish(self, rates: LinkRates, clients: Ints, bits: Ints, start_ns: Ints) -> Ints:
        """Return when transfers end that each client has subchannels of its own for."""
        block_ns = self._channel.block_ns
        if block_ns is None:
            ends = finish_constant(bits, rates.of(clients, np.zeros_like(clients)), start_ns)
        else:

            def of(which: Ints, blocks: Ints) -> Floats:
                return rates.of(clients[which], blocks)

            ends = finish_blocks(bits, start_ns, block_ns, of, _MOST_BLOCKS)
        if ends.max(initial=0) >= NEVER:
            raise ScenarioError(NEVER_ENDS)
        return ends

    def _sent(
        self, stage: Stage, clients: Ints, bits: Ints, times: tuple[Ints, Ints, Ints], found: "_Spans"
    ) -> None:
        """Add transfers, with what they cost by the operations of the medium in their order."""
        assert isinstance(stage, Transfer)
        link, energy_j = self._links[stage.link], np.zeros(len(clients))
        if stage.link in self._rates:
            airtime_ns = times[2] - times[1]
            energy_j = self._powers_w[stage.link][clients] * airtime_ns / NS_PER_S
            if link.is_uplink:
                costs = self._radio.uplink_energy
                own_j = costs.baseline_w * (airtime_ns / NS_PER_S) + costs.j_per_bit * bits
                energy_j = np.where(bits > 0, own_j + energy_j * float(costs.counts_radiated), energy_j)
        ends = (CLIENT, link.server) if link.is_uplink else (link.server, CLIENT)
        found.add(Phase(stage.name, "transfer", *ends), clients, *times, bits.astype(float), 0.0, energy_j)

    def _joint(self, stage: Compute, found: "_Spans") -> None:
        """Let a server do what all chains were waited for."""
        for _ in range(stage.count):
            begun, self.now_ns = self.now_ns, self.now_ns + _cost(self._devices[stage.actor], stage)[0]
            self._computed(stage, (np.array([begun]), np.array([begun]), np.array([self.now_ns])), found)

    def _computed(self, stage: Compute, times: tuple[Ints, Ints, Ints], found: "_Spans") -> None:
        """Add what a server computed."""
        energy_j = _cost(self._devices[stage.actor], stage)[1]
        phase = Phase(stage.name, "compute", stage.actor, "")
        found.add(phase, np.full(len(times[0]), -1), *times, 0.0, float(stage.flop), energy_j)


_COLUMNS = ("asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j")


class _Spans:
    """The spans of a round as they are found."""

    def __init__(self) -> None:
        self._phases: dict[Phase, int] = {}
        self._columns: list[list[np.ndarray]] = [[] for _ in range(8)]

    def add(self, phase: Phase, clients: Ints, *columns: "Ints | Floats | float") -> None:
        """Add spans of clients; a number is the same for all."""
        number = self._phases.setdefault(phase, len(self._phases))
        for column, value in zip(self._columns, (number, clients, *columns), strict=True):
            column.append(np.broadcast_to(np.asarray(value), clients.shape))

    def work(self, task: str, round_: int) -> Work:
        """Return all of them."""
        empty = np.zeros(0, dtype=np.int64)
        phase, client, *columns = (np.concatenate([empty, *one]) for one in self._columns)
        named = dict(zip(_COLUMNS, columns, strict=True))
        named |= {"delivered": np.ones(len(phase), dtype=np.bool_), "resent_bits": np.zeros(len(phase))}
        return Work(task, round_, tuple(self._phases), phase, client, **named)


def refuse_rounds(prepared: Sequence[Prepared]) -> None:
    """Refuse tasks whose rounds their stages do not say.

    Raises
    ------
    ScenarioError
        With the first reason and its setting.
    """
    one, *others = prepared
    scenario = one.scenario
    refuse(scenario)
    why, scheme = None, scenario.scheme
    if others:
        why = "tasks: several wait for each other's turns"
    elif scheme.cutoff is not None and scenario.allocator.shares_in_time:
        why = "scheme.deadline_s: clients that are late hold the band that the others wait for"
    elif not scheme.patient.is_staged:
        why = f"scheme.kind: rounds of {scheme.kind!r} under these settings are not what its stages say"
    elif any(scheme.multicasts(link.name) for link in scheme.links):
        why = "scheme.downlink: 'multicast' is sent at the rate of the weakest of all clients"
    elif scenario.allocator.reallocate != "once" and scenario.allocator.sets_knobs:
        why = f"allocator.reallocate: {scenario.allocator.kind!r} may decide otherwise in every round"
    refuse_values(scenario, one.task, one.num_blocks)
    num_drawn = len(scheme.taking_part(one.task.seed, one.task.num_clients, 1))
    if num_drawn < one.task.num_clients or scheme.cutoff is not None:
        refuse_others_sent(one.task, one.num_blocks)
    overlapping({} if one.allocation is None else one.allocation.grants)
    if why is not None:
        raise ScenarioError(f'{why}, and the tensor clock keeps no spans to go by; take engine = "events".')


def _cost(device: Device, stage: Compute) -> tuple[int, float]:
    """Return how long a piece of work takes, ns, and what it costs, J."""
    return device.duration_ns(stage.flop, stage.name), device.energy_j(stage.flop, stage.name)


def _same(values: Sequence[T]) -> Iterator[tuple[T, Ints]]:
    """Yield each of some values once, with its places; most of them are one and the same object."""
    ids = np.fromiter(map(id, values), dtype=np.int64, count=len(values))
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    numbers: dict[T, int] = {}
    number = np.array([numbers.setdefault(values[at], len(numbers)) for at in first.tolist()], dtype=np.int64)
    for one, at in numbers.items():
        yield one, np.flatnonzero(number[which] == at)
