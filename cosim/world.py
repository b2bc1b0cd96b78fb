"""One cell, alive: devices with their queues, the air, the training, the clock and the log."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cosim.compute.device import Device
from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.knobs import SURFACE_PHASES
from cosim.errors import ScenarioError, StalledError
from cosim.files import write_whole
from cosim.graph.executor import Executor
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import NEVER_NS
from cosim.kernel.queue import Queue
from cosim.learning.lesson import Lesson
from cosim.learning.training import Training
from cosim.measuring import Measuring, Place
from cosim.measuring import Moment as Moment
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.record.log import Log
from cosim.transmissions import Arriving, Outgoing, Transmissions, nothing_known
from cosim.units import NS_PER_S

MOST_BLOCKS_WITHOUT_SPAN = 1000
"""Decisions for blocks of the channel while nothing ends: after so many, nothing ever will."""

MAIN_SERVER = "main-server"
FEDERATED_SERVER = "federated-server"


@dataclass(frozen=True)
class Progress:
    """How far a run is when a round has ended.

    Attributes
    ----------
    round
        Which round; 0 is the evaluation before training.
    measured
        Means of what was measured since another round ended.
    num_ended
        How many rounds are over.
    """

    round: int
    simulated_ns: int
    num_spans: int
    measured: dict[str, float]
    num_ended: int = 0


@dataclass(frozen=True)
class Turn:
    """Another air, or another way to share it, from an instant on."""

    at_ns: int
    channel: Channel
    access: Access
    max_tx_power_w: Sequence[float]
    allocator: Allocator


class World:
    """What lives during a run; the schemes act through it.

    Parameters
    ----------
    clients, main_server, federated_server
        The devices.
    decisions
        Who is asked what is granted, and the channel as it is now.
    medium, links
        What the air does with a transmission, and what the scheme sends over.
    lesson
        What is learned.
    executor
        Who computes values at the rank the allocator decided on.
    watch
        Called at the end of each round.
    turns
        Changes of the air at given instants.
    """

    def __init__(
        self,
        *,
        clients: Sequence[Device],
        main_server: Device,
        federated_server: Device,
        decisions: Decisions,
        medium: Medium,
        links: Collection[Link],
        lesson: Lesson,
        executor: Callable[[int], Executor],
        watch: Callable[[Progress], None],
        turns: Sequence[Turn] = (),
    ) -> None:
        self.clock = Clock()
        self.log = Log()
        self.lesson = lesson
        self.devices = {device.name: device for device in (*clients, main_server, federated_server)}
        self.adapter: Ref | None = None
        self.client_names = tuple(device.name for device in clients)
        self._clients = tuple(clients)
        self._queues = {
            name: Queue(self.clock, device.queue_capacity, name) for name, device in self.devices.items()
        }
        self._transmissions = Transmissions(self.clock, self.log, decisions, medium, links, self.client_names)
        self._make_executor = executor
        self._measuring = Measuring(self.log, self._place_of_step, lambda: (Moment(self._round), MAIN_SERVER))
        self._watch = watch
        self._round = 1
        self._next_block_ns, self._spans_seen, self._blocks_without_span = 0, 0, 0
        self.decisions = decisions
        for turn in turns:
            self.clock.after(turn.at_ns, partial(self._turn, turn))

    @property
    def channel(self) -> Channel:
        """The channel as it is now."""
        return self.decisions.cell

    @property
    def num_clients(self) -> int:
        """How many clients take part."""
        return len(self._clients)

    def begin(self) -> Training:
        """Decide who gets what, put it in force, and return the training at the decided cut and rank.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        allocation = self.decide(round_=1)
        if self.decisions.follows_rounds:  # asked again before anything is sent, knowing more
            self.decisions.put_in_force(allocation, self.clock.now, self._round)
        else:
            self._put_in_force(allocation)
        self._measuring.executor = self._make_executor(allocation.lora_rank)
        told = {"lora_rank": float(allocation.lora_rank)} if self.lesson.trainable.has_factors else {}
        told["cut_layer"] = float(allocation.cut_layer)
        if allocation.plan is not None and self.decisions.predicted_round_s() is not None:
            told["predicted_total_s"] = allocation.plan.total_s
        for name, value in told.items():
            self.log.metrics.add(self.clock.now, 0, 0, MAIN_SERVER, name, value)
        for name, cut in zip(self.client_names, allocation.client_cut_layers or (), strict=False):
            self.log.metrics.add(self.clock.now, 0, 0, name, "cut_layer", float(cut))
        return Training(self.lesson, allocation.cut_layer, allocation.lora_rank, allocation.client_cut_layers)

    def _put_in_force(self, allocation: Allocation) -> None:
        self.decisions.put_in_force(allocation, self.clock.now, self._round)
        if SURFACE_PHASES in allocation.knobs:
            self._transmissions.network.change(self.channel, self.decisions.access)
        self._follow_blocks()
        for link, grants in allocation.grants.items():
            self._transmissions.network.grant(link, dict(enumerate(grants)), self._round)
        predicted_s = self.decisions.predicted_round_s()
        if predicted_s is not None:
            self.log.metrics.add(
                self.clock.now, self._round, 0, MAIN_SERVER, "predicted_round_s", predicted_s
            )
        told = {
            (MAIN_SERVER, name): value for name, value in {**allocation.memory, **allocation.figures}.items()
        }
        for name, value in allocation.knobs.items():
            if name == SURFACE_PHASES:  # of no client, and many
                continue
            each = value if isinstance(value, tuple) else (value,)
            names = self.client_names if isinstance(value, tuple) else (MAIN_SERVER,)
            told.update(zip(((one, name) for one in names), each, strict=True))
        for (actor, name), value in told.items():
            self.log.metrics.add(self.clock.now, self._round, 0, actor, name, value)

    def _turn(self, turn: Turn) -> None:
        """Let another air take over; who gets what is decided again, cut layer and rank stay."""
        self.decisions.change(turn.channel, turn.access, turn.max_tx_power_w, turn.allocator)
        self._transmissions.network.change(turn.channel, turn.access)
        if self.decisions.chooses_clients:  # those it chose have begun, and may not lose their grants
            self._share_equally(self._round)
        else:
            self.apply_decision(self._round)

    def _follow_blocks(self) -> None:
        """Ask the allocator again when the next block of the channel begins, if it wants that."""
        block_ns = self.channel.block_ns
        if not self.decisions.follows_blocks or block_ns is None:
            return
        due_ns = (self.clock.now // block_ns + 1) * block_ns
        if due_ns > self._next_block_ns:
            self._next_block_ns = due_ns
            self.clock.after(due_ns - self.clock.now, self._begin_block)

    def _begin_block(self) -> None:
        """Decide again for a block that begins."""
        if not self.decisions.follows_blocks:
            return
        num_spans = len(self.log.spans)
        self._blocks_without_span = self._blocks_without_span + 1 if num_spans == self._spans_seen else 0
        self._spans_seen = num_spans
        if self._blocks_without_span > MOST_BLOCKS_WITHOUT_SPAN:
            raise ScenarioError(
                "allocator.reallocate: 'every_block' decides for each block of the channel, and nothing has "
                f"ended for {MOST_BLOCKS_WITHOUT_SPAN} of them; take a longer coherence time, or "
                "'every_round'."
            )
        self.apply_decision(self._round)

    def apply_decision(self, round_: int) -> None:
        """Put a decision in force, or, while reports are waited for, equal shares under which they travel."""
        if self.decisions.is_waiting:
            self._share_equally(round_)
        else:
            self._put_in_force(self.decide(round_))

    def _share_equally(self, round_: int) -> None:
        for link, grants in self.decisions.shares_while_waiting(self.clock.now).items():
            self._transmissions.network.grant(link, dict(enumerate(grants)), round_)

    def decide(self, round_: int) -> Allocation:
        """Return the allocator's decision for the channel as it is now, checked against its limits."""
        return self.decisions.decide(self.clock.now, round_)

    def begin_round(self, round_: int, taking_part: Sequence[int] | None = None) -> None:
        """Record that a round begins, with these clients; all without it. Rounds may overlap."""
        names = self.client_names  # one tuple for all rounds of everybody
        if taking_part is not None and len(taking_part) < len(names):
            names = tuple(names[client] for client in taking_part)
        self.log.rounds.begin(self.clock.now, round_, names)

    def start_round(self, round_: int, taking_part: Sequence[int] | None = None) -> None:
        """Begin a round of a scheme whose rounds follow one another; the allocator is asked if it is due.

        Parameters
        ----------
        round_
            Which round begins; they count from 1.
        taking_part
            Clients of this round, ascending; all without it.
        """
        self.begin_round(round_, taking_part)
        self.consult(round_, taking_part)

    def consult(self, round_: int, taking_part: Sequence[int] | None = None) -> None:
        """Ask the allocator again where it is to be asked now that a round, of these clients, begins."""
        everybody = range(self.num_clients)
        absent = set(everybody).difference(everybody if taking_part is None else taking_part)
        self.decisions.start_round(self.clock.now, round_, absent)
        if self.decisions.follows_rounds or (round_ > 1 and self.decisions.is_due(self.clock.now)):
            self.apply_decision(round_)

    @property
    def computes(self) -> bool:
        """Whether there are values at all."""
        return self._measuring.computes

    def hold(self, refs: Callable[[], Iterable[Ref]]) -> None:
        """Keep these fields whenever values are computed: what later rounds build on, as it is then."""
        self._measuring.hold(refs)

    def ask(self, read: Sequence[Ref], keep: Iterable[Ref] = ()) -> list[Any]:
        """Return values in the middle of a round, none where nothing is computed; no simulated time passes.

        See :meth:`cosim.measuring.Measuring.ask`.
        """
        return self._measuring.ask(read, keep)

    def _place_of_step(self, node: Node) -> Place | None:
        """Return when and whose an optimiser's step is, from the node's parameters; None of other nodes."""
        if "step" not in node.params:
            return None
        round_, local_step = divmod(node.params["step"], self.decisions.terms.local_steps)
        batches = (one.node.params["batch"] for one in node.inputs if "batch" in one.node.params)
        rows = {row for batch in batches for row in batch["rows"]}
        shares = zip(self.client_names, self.lesson.shares, strict=True)
        whose = [name for name, share in shares if rows and rows <= set(share)]
        return Moment(round_ + 1, local_step + 1), whose[0] if whose else MAIN_SERVER

    def plan(self) -> dict[str, Any] | None:
        """Return what was to be expected of the first decision, and record how far it is from the bound."""
        plan = self.decisions.plan()
        if plan is not None and plan["gap_to_bound"] is not None:
            self.log.metrics.add(0, 0, 0, MAIN_SERVER, "gap_to_bound", plan["gap_to_bound"])
        return plan

    def play(self, scheme: Steps) -> None:
        """Let a scheme run to its end.

        Raises
        ------
        ScenarioError
            If it cannot end, as a channel is too weak to carry anything or a device too slow.
        StalledError
            If it cannot end for another reason.
        """
        try:
            self.clock.run(self.clock.process(scheme, "the scheme"))
        except StalledError:
            why = self._transmissions.network.too_weak()
            if why is None:
                raise
            raise ScenarioError(why) from None

    def compute(
        self, actor: str, name: str, moment: Moment, flop: int, node: Node, after: Sequence[int]
    ) -> Steps:
        """Compute on a device, after waiting for its queue; returns the number of the span."""
        device, queue, clock = self.devices[actor], self._queues[actor], self.clock
        asked_ns = clock.now
        turn = queue.enter()
        made_room = None if turn is None else (yield turn)
        start_ns = clock.now
        duration_ns = device.duration_ns(flop)
        if start_ns + duration_ns >= NEVER_NS:
            raise ScenarioError(
                f"{actor}: {name} of {flop:.3g} FLOP takes {duration_ns / NS_PER_S:.3g} s at "
                f"{device.flop_per_s:.3g} FLOP/s, and simulated time ends after 292 years; "
                "give it a faster clock_hz."
            )
        yield clock.timeout(duration_ns)
        span = self.log.spans.add(
            after if made_room is None else (*after, made_room),
            "compute",
            name,
            actor,
            "",
            moment.round,
            moment.local_step,
            asked_ns,
            start_ns,
            clock.now,
            0,
            flop,
            device.energy_j(flop),
            node.key,
        )
        queue.leave(span)
        return span

    def is_modelled(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        return self._transmissions.is_modelled(link)

    def loses(self, link: str) -> bool:
        """Return whether what is sent over a link may be lost."""
        return self._transmissions.loses(link)

    def sums(self, link: str) -> bool:
        """Return whether what clients send over a link at once arrives as a sum."""
        return self._transmissions.sums(link)

    def send(
        self, link: str, client: int, name: str, moment: Moment, bits: int, node: Node, after: Sequence[int]
    ) -> Steps:
        """Send over the air, or at once over a link that is free; returns what was sent.

        See :meth:`cosim.transmissions.Transmissions.send`.
        """
        return self._transmissions.send(link, client, name, moment, bits, node, after)

    def send_at_once(
        self,
        link: str,
        name: str,
        moment: Moment,
        outgoing: Mapping[int, Outgoing],
        arriving: Arriving = nothing_known,
    ) -> Steps:
        """Send from several clients, or to several, in one transmission; returns what was sent.

        See :meth:`cosim.transmissions.Transmissions.send_at_once`.
        """
        return self._transmissions.send_at_once(link, name, moment, outgoing, arriving)

    def together(self, processes: Sequence[Steps], name: str) -> Steps:
        """Let processes run side by side and return their results, in their order, when all have ended."""
        started = [self.clock.process(steps, f"{name} {number}") for number, steps in enumerate(processes)]
        yield self.clock.all_of(started)
        return [process.value for process in started]

    def measure(self, moment: Moment, actor: str, name: str, ref: Ref) -> None:
        """Record a learned value at this instant; it is computed when the round ends."""
        self._measuring.measure(self.clock.now, moment, actor, name, ref)

    def note(self, moment: Moment, name: str, value: float, actor: str = MAIN_SERVER) -> None:
        """Record a number of the time plane at this instant."""
        self.log.metrics.add(self.clock.now, moment.round, moment.local_step, actor, name, value)

    def end_round(self, round_: int) -> None:
        """Record that a round ends, and compute what was learned until then.

        Round 0, the evaluation before training, takes no time and is recorded nowhere.
        """
        if round_:
            self.close_round(round_)
        self.report(round_)

    def close_round(self, round_: int) -> None:
        """Record that a round ends."""
        self.log.rounds.end(self.clock.now, round_)

    def report(self, round_: int) -> None:
        """Compute what was learned so far, let go of how it came to be, and say how far the run is."""
        self.ask(())
        self._round = max(self._round, round_ + 1)
        num_ended = self.log.rounds.num_ended
        self._watch(Progress(round_, self.clock.now, len(self.log.spans), self._measuring.means(), num_ended))

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained in the format of its ecosystem; nothing where nothing was computed."""
        executor = self._measuring.executor
        if executor is None or not executor.computes or self.adapter is None:
            return
        (files,) = executor.materialise((), [self.adapter])
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)

    @property
    def executor(self) -> Executor | None:
        """Who computes values; None before a run has begun."""
        return self._measuring.executor
