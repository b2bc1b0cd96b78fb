"""The tensor clock: a scenario's rounds evaluated for many channels, in integer nanoseconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from cosim.control.decision import Allocation
from cosim.errors import ScenarioError
from cosim.graph.code_identity import without_code
from cosim.graph.executor import TimingOnly
from cosim.learning.payload import bits_are_known
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.channel import Channel
from cosim.radio.link import Link
from cosim.radio.settings import Radio
from cosim.record.folder import Record
from cosim.scenario.build import prepare
from cosim.scenario.prepared import Prepared, recipes, worlds
from cosim.scenario.settings import Scenario
from cosim.site import Site
from cosim.tensor.air import MOST_BYTES, Rates, TooLongError
from cosim.tensor.drain import NEVER
from cosim.tensor.draws import Air, Draws
from cosim.tensor.in_turn import NEVER_ENDS
from cosim.tensor.known_bits import take_bits
from cosim.tensor.lateness import OTHERS_LATE, Deadlines, Heard, Lateness, flop_of
from cosim.tensor.one_channel import OneChannel
from cosim.tensor.order import Order, order_of, told_of
from cosim.tensor.program import Level
from cosim.tensor.queues import served, taken_in_turn
from cosim.tensor.refusals import overlapping, refuse, refuse_other_settings, refuse_others_sent
from cosim.units import NS_PER_S, Floats, Ints
from cosim.world import World

MOST_CHANNELS = 1000
"""Evaluated side by side."""

_AHEAD = 1.1  # how far rates are worked out at first, in lengths of the run that was played
_SELDOM = 0.06  # of its blocks, and a flow is worked out block by block
_MANY = 8  # channels, for which keys are drawn from in one go
_ROOM = 2  # for rates, in the same, as channels differ and tables move when they grow


@dataclass(frozen=True, eq=False)
class Times:
    """The spans of some channels, in the numbering of the run that was played.

    Attributes
    ----------
    start_ns, end_ns
        Shape (num_spans, num_channels).
    energy_j
        Of each span, J, of the same shape.
    faults
        By the number of a channel, why its times mean nothing, where they do not.
    heard
        Where there is a deadline, who is late on each channel and which spans it has; others have zeros.
    """

    start_ns: Ints
    end_ns: Ints
    energy_j: Floats
    faults: Mapping[int, str]
    heard: Heard | None = None

    @property
    def waited_ns(self) -> Ints:
        """Ends of the spans that are waited for, 0 of the others, ns, shape (num_spans, num_channels)."""
        return self.end_ns if self.heard is None else np.where(self.heard.is_heard, self.end_ns, 0)

    @property
    def total_s(self) -> Floats:
        """From the beginning to the end of the last span that is waited for, s, shape (num_channels,)."""
        latest: Ints = self.waited_ns.max(axis=0, initial=0)
        return np.array([one / NS_PER_S for one in latest.tolist()])  # floats lose some ns of 105 days

    def refuse_others_late(self, trained: "Times") -> "Times":
        """Return them with a fault where other clients are late than on the first channel of a training."""
        if self.heard is None or trained.heard is None:
            return self
        others = {
            channel: OTHERS_LATE
            for channel in range(self.end_ns.shape[1])
            if not self.heard.is_as(trained.heard, channel)
        }
        return replace(self, faults={**others, **self.faults})


class TensorClock:
    """What a scenario does, in an order that no channel changes, ready to be evaluated.

    The event kernel is played once for it, without values, unless the order of its spans is known.

    Parameters
    ----------
    scenario
        What is run.
    prepared
        The same, ready to run, where it is at hand.
    learned
        A run of it that was trained, which knows the bits that values decide.
    order
        That of a run of it, without deadlines.

    Raises
    ------
    ScenarioError
        If the tensor clock cannot promise the times of the event kernel; names the setting.

    Attributes
    ----------
    prepared
        The scenario, ready to run, but for radio and allocator where its order was given.
    order
        The order of the spans.
    program
        The spans of the order.
    deadlines
        Where there are any.

    Examples
    --------
    Total time under three bandwidths (``Radio`` is ``scenario.radio``)::

        clock = TensorClock(scenario)
        airs = [clock.air(change(scenario, {"radio.main_uplink.bandwidth_hz": hz}).radio) for hz in widths_hz]
        for times in clock.evaluate(airs):
            print(times.total_s)
    """

    def __init__(
        self,
        scenario: Scenario,
        prepared: Prepared | None = None,
        learned: Record | None = None,
        order: Order | None = None,
    ) -> None:
        refuse(scenario)
        self.scenario, self._learned = scenario, learned
        self.prepared = prepare(scenario) if prepared is None else prepared
        self.order = order_of(scenario, self._world) if order is None else order
        self.program, cutoff = self.order.program, scenario.scheme.cutoff
        self._links = {link.name: link for link in scenario.scheme.links}
        self.deadlines: Deadlines | None = None
        if cutoff is not None:
            task, allocation = self.prepared.task, self._world.decisions.current
            assert allocation is not None
            refuse_others_sent(task, self.prepared.num_blocks)
            made = flop_of(scenario.scheme, task, allocation.setting)
            self.deadlines = Deadlines(self.played, cutoff, made, self.order.shared)
        self._draws = Draws(scenario.num_clients)
        self._known: list[tuple[object, Allocation]] = []

    @cached_property
    def _world(self) -> World:
        """A run of the event kernel in which nobody is late."""
        scenario = self.scenario
        with without_code():
            (world,) = worlds([self.prepared], lambda _: lambda _rank: TimingOnly())
            world.site.play(recipes([self.prepared], [world], [scenario.scheme.patient]))
        if self._learned is not None and not bits_are_known(self.prepared.task, self.prepared.num_blocks):
            take_bits(world.log.spans, self._learned.spans, is_whole=scenario.scheme.cutoff is None)
        return world

    @property
    def played(self) -> Site:
        """The site of that run, with its log."""
        return self._world.site

    def air(self, radio: Radio, scenario: Scenario | None = None, decided: Allocation | None = None) -> Air:
        """Return a channel, with what the allocator decides on it.

        Parameters
        ----------
        radio
            Its settings.
        scenario
            What has the allocator; the clock's own without it. All else but the radio must be the same.
        decided
            Its first decision there, where it is known.

        Raises
        ------
        ScenarioError
            If spans would be others than those that were played: the decision cuts the model or takes
            part otherwise, a link takes time that did not, or clients would wait for each other.
        """
        own = self.scenario if scenario is None else scenario
        refuse(own.model_copy(update={"radio": radio}))
        if own is not self.scenario:
            refuse_other_settings(self.scenario, own)
        allocation, others = decided or self._decide(radio, own), None
        if told_of(allocation) != self.order.decided:
            others = f"allocator.kind: {own.allocator.kind!r} decides on another cut, rank or knob"
        elif overlapping(allocation.grants) != self.order.shared:
            others = f"allocator.kind: {own.allocator.kind!r} lets other clients wait for each other"
        for link in self._links:
            if radio.link(link).is_modelled != self.scenario.radio.link(link).is_modelled:
                others = f"radio.{link}.modelled: is set otherwise"
        if others is not None:
            raise ScenarioError(f'{others} than in the run that was played; take engine = "events".')
        return Air(radio, own.seed, allocation.grants)

    def _decide(self, radio: Radio, scenario: Scenario) -> Allocation:
        """Return the first decision on a channel; one that sees no gains is taken once for alike limits."""
        allocator = scenario.allocator
        is_blind = not allocator.sees_gains and radio.uplink_p0_dbm is None
        limits = [
            radio.link(link).model_copy(update={"bandwidth_hz": 1.0, "subchannel_bandwidths_hz": None})
            for link in self._links
        ]
        if is_blind:
            found = next((one for key, one in self._known if key == (allocator, limits)), None)
            if found is not None:
                return found
        channel = Channel.build(radio, scenario.num_clients, scenario.seed)
        asked = replace(
            self.prepared,
            scenario=scenario.model_copy(update={"radio": radio}),
            channel=channel,
            allocation=None,
        )
        allocation = asked.decisions().decide(0, round_=1)
        if is_blind:
            self._known.append(((allocator, limits), allocation))
        return allocation

    def evaluate(self, airs: Sequence[Air]) -> Iterator[Times]:
        """Yield the times of all spans, some channels at a time, in their order.

        Raises
        ------
        ScenarioError
            If a channel has too many blocks.
        """
        begin, most = 0, self._most_channels(airs)
        for end in range(1, len(airs) + 1):
            is_last = end == len(airs) or end - begin == most
            if is_last or shortest_block_ns(airs[end].radio) != shortest_block_ns(airs[begin].radio):
                yield from self._evaluate(airs[begin:end])
                begin = end

    def _most_channels(self, airs: Sequence[Air]) -> int:
        """Return how many channels are evaluated side by side, by what their rates take."""
        block_ns = min((shortest_block_ns(air.radio) or NEVER for air in airs), default=NEVER)
        num_blocks = self.program.length_ns // block_ns + 1
        each_bytes = 8 * (_ROOM * num_blocks * len(self.program.flows) + 3 * self.program.num_spans)
        most = max(1, min(MOST_CHANNELS, MOST_BYTES // each_bytes))
        return -(-len(airs) // -(-len(airs) // most)) if airs else most  # as many in each chunk

    def _evaluate(self, airs: Sequence[Air]) -> Iterator[Times]:
        try:
            yield _Evaluation(self, airs, self._draws).times()
        except TooLongError:
            half = len(airs) // 2
            yield from self._evaluate(airs[:half])
            yield from self._evaluate(airs[half:])

    def seldom(self, block_ns: int | None) -> list[int]:
        """Return the flows that use few of their blocks, by the run that was played."""
        if block_ns is None:
            return []
        program, flow = self.program, self.program.flow
        used = (program.end_ns - program.start_ns) // block_ns + 2
        blocks = np.bincount(flow[flow >= 0], used[flow >= 0], len(program.flows))
        return np.flatnonzero(blocks < _SELDOM * (program.length_ns // block_ns)).tolist()

    @property
    def links(self) -> dict[str, Link]:
        """The links of the scheme."""
        return self._links


class _Evaluation:
    """The evaluation of a program on some channels."""

    def __init__(self, clock: TensorClock, airs: Sequence[Air], draws: Draws) -> None:
        self._program, self._airs, self._links = clock.program, airs, clock.links
        horizon_ns = int(_AHEAD * clock.program.length_ns)
        flows = self._program.flows
        seldom = clock.seldom(shortest_block_ns(airs[0].radio)) if len(airs) >= _MANY else []
        self._rates = Rates(airs, flows, clock.links, draws, horizon_ns, seldom) if flows else None
        self._late = None if clock.deadlines is None else Lateness(clock.deadlines, len(airs))
        shape = self._program.num_spans, len(airs)
        self._start, self._end = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)

    def times(self) -> Times:
        """Return the times, level by level."""
        if len(self._airs) == 1 and self._late is None:
            self._play_one()
        else:
            for level in self._program.levels:
                self._play(level)
        times = Times(self._start, self._end, self._energy_j(), {})
        if self._late is not None:
            heard = self._late.heard(self._end)
            times = replace(times, heard=heard, faults=heard.faults)
            for table in (times.start_ns, times.end_ns, times.energy_j):
                table[~heard.is_there] = 0
        never = np.flatnonzero((times.waited_ns >= NEVER).any(axis=0)).tolist()
        return replace(times, faults={**dict.fromkeys(never, NEVER_ENDS), **times.faults})

    def _play_one(self) -> None:
        """Find the times of the only channel."""
        program, rates = self._program, self._rates
        flow, bits, ended_ns = (one.tolist() for one in (program.flow, program.bits, program.end_ns))
        length_ns = max(program.length_ns, 1)

        def finish(span: int, start_ns: int) -> int:
            assert rates is not None
            rates.reached = ended_ns[span] / length_ns
            return rates.finish_one(flow[span], bits[span], start_ns)

        channel = OneChannel(program, finish)
        channel.play()
        self._start[:, 0], self._end[:, 0] = channel.start_ns, channel.end_ns

    def _play(self, level: Level) -> None:
        spans = level.spans
        if len(level.causes):
            latest = self._end[level.causes]  # (causes, channels)
            if len(level.first_cause) < len(level.causes):
                latest = np.maximum.reduceat(latest, level.first_cause, axis=0)  # (sets, channels)
            asked = latest[level.cause_of]
            asked[level.at_once] = 0
        else:
            asked = np.zeros((len(spans), len(self._airs)), dtype=np.int64)
        lasts = level.lasts_ns[:, np.newaxis]
        if self._late is not None:
            asked, served_ns = self._late.begin(spans, asked, self._end)
            lasts = np.where(
                self._late.takes_part(spans[:, np.newaxis]), np.where(served_ns, served_ns, lasts), 0
            )
        start, end = asked, asked + lasts
        if self._rates is not None:
            self._rates.reached = level.reached
        if len(level.transfers):
            end[level.transfers] = self._finish(spans[level.transfers], asked[level.transfers])
        for queue in level.queues:
            members, waiting = spans[queue.spans], asked[queue.spans]
            if queue.capacity:
                lasts = level.lasts_ns[queue.spans]
                start[queue.spans] = served(waiting, lasts, queue.capacity)
                end[queue.spans] = start[queue.spans] + lasts[:, np.newaxis]
            else:
                finish = partial(self._finish_each, members)
                start[queue.spans], end[queue.spans] = taken_in_turn(waiting, finish)
        self._start[spans], self._end[spans] = start, end

    def _finish(self, spans: Ints, start_ns: Ints) -> Ints:
        """Return the ends of transfers, shape (num_spans, num_channels)."""
        assert self._rates is not None
        bits = self._program.bits[spans]
        if self._late is not None:
            wide = spans.reshape(len(spans), -1)
            bits = np.where(self._late.takes_part(wide), bits.reshape(wide.shape), 0)
        return self._rates.finish(self._program.flow[spans], bits, start_ns)

    def _finish_each(self, spans: Ints, rows: Ints, start_ns: Ints) -> Ints:
        """Return the end of one of some transfers in each channel, shape (num_channels,)."""
        return np.asarray(self._finish(spans[rows][np.newaxis], start_ns[np.newaxis])[0])

    def _energy_j(self) -> Floats:
        """Return what spans cost, J, by the operations of the medium in their order."""
        program = self._program
        energy_j = np.repeat(program.energy_j[:, np.newaxis], len(self._airs), axis=1)
        for span, each_j in self._late.energy_j.items() if self._late is not None else ():
            energy_j[span] = each_j
        sent = np.flatnonzero(program.flow >= 0)
        if not len(sent):
            return energy_j
        power_w = np.array(
            [[air.grant(flow).total_tx_power_w for air in self._airs] for flow in program.flows]
        )
        flow, airtime_ns = program.flow[sent], self._end[sent] - self._start[sent]
        radiated_j = power_w[flow] * airtime_ns / NS_PER_S
        is_up = np.array([self._links[link].is_uplink for link, _ in program.flows])[flow]
        counts = (is_up & (program.bits[sent] > 0))[:, np.newaxis]
        costs = [air.radio.uplink_energy for air in self._airs]
        of_air = np.array([[one.baseline_w, one.j_per_bit, float(one.counts_radiated)] for one in costs])
        baseline_w, j_per_bit, share = of_air.T
        own_j = baseline_w * (airtime_ns / NS_PER_S) + j_per_bit * program.bits[sent, np.newaxis]
        each_j = np.where(counts, own_j + radiated_j * share, radiated_j)
        num = np.array([len(members) for _, members in program.flows])[flow, np.newaxis]
        energy_j[sent] = each_j / num * num  # a multicast is charged by receiver, and added up
        return energy_j
