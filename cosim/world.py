"""One cell, alive: devices with their queues, the air, the training, the clock and the log."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from cosim.compute.device import Device
from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.state import CellState
from cosim.errors import DivergedError, ScenarioError, StalledError
from cosim.files import write_whole
from cosim.graph.executor import Executor
from cosim.graph.finite import NotFiniteError, is_finite
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import NEVER_NS
from cosim.kernel.queue import Queue
from cosim.learning.lesson import Lesson
from cosim.learning.training import Training
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.link import Link
from cosim.radio.medium import Delivery, Medium, Payload
from cosim.record.log import Log
from cosim.units import NS_PER_S

MAIN_SERVER = "main-server"
FEDERATED_SERVER = "federated-server"

_WHAT = {
    "train_loss": "the training loss",
    "eval_loss": "the held-out loss",
    "adapter": "the adapter",
    "optimizer": "what the optimiser remembers",
    "adapter_gradient": "the gradient",
    "residual": "what joins the base",
    "tensors": "what is received",
    "memory": "what is held back",
}
"""What a value that is not finite is called, by its metric or field."""


@dataclass(frozen=True)
class Moment:
    """Where in the training a piece of work belongs; ``local_step`` is 0 where it has none."""

    round: int
    local_step: int = 0


class Outgoing(NamedTuple):
    """What one client sends, or is sent, with others: its size, its part in the training, its causes."""

    payload: Payload
    node: Node
    after: Sequence[int]


class Sent(NamedTuple):
    """The number of a transfer's span, and what became of the transfer."""

    span: int
    delivery: Delivery

    @property
    def is_delivered(self) -> bool:
        """Whether it arrived."""
        return all(self.delivery.delivered.values())


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``measured`` are means over this round, of what was measured in it."""

    round: int
    simulated_ns: int
    num_spans: int
    measured: dict[str, float]


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
        self._medium = medium
        self._links = {link.name: link for link in links}
        self._network = medium.open(self.clock, decisions.cell, decisions.access, self.log.grants, links)
        self._make_executor = executor
        self._executor: Executor | None = None
        self._watch = watch
        self._round = 1
        self.decisions = decisions
        for turn in turns:
            self.clock.after(turn.at_ns, partial(self._turn, turn))
        self._roots: Callable[[], Iterable[Ref]] = tuple
        self._measured: list[tuple[int, Moment, str, str, Ref]] = []
        self._of_round: dict[str, list[float]] = {}

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
        self._executor = self._make_executor(allocation.lora_rank)
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
        for link, grants in allocation.grants.items():
            self._network.grant(link, dict(enumerate(grants)), self._round)
        predicted_s = self.decisions.predicted_round_s()
        if predicted_s is not None:
            self.log.metrics.add(
                self.clock.now, self._round, 0, MAIN_SERVER, "predicted_round_s", predicted_s
            )
        told = {
            (MAIN_SERVER, name): value for name, value in {**allocation.memory, **allocation.figures}.items()
        }
        for name, value in allocation.knobs.items():
            each = value if isinstance(value, tuple) else (value,)
            names = self.client_names if isinstance(value, tuple) else (MAIN_SERVER,)
            told.update(zip(((one, name) for one in names), each, strict=True))
        for (actor, name), value in told.items():
            self.log.metrics.add(self.clock.now, self._round, 0, actor, name, value)

    def _turn(self, turn: Turn) -> None:
        """Let another air take over; who gets what is decided anew, cut layer and rank stay."""
        self.decisions.change(turn.channel, turn.access, turn.max_tx_power_w, turn.allocator)
        self._network.change(turn.channel, turn.access)
        if self.decisions.chooses_clients:  # those it chose have begun, and may not lose their grants
            self._share_equally(self._round)
        else:
            self._apply_decision(self._round)

    def _apply_decision(self, round_: int) -> None:
        """Put a decision in force, or, while reports are waited for, equal shares under which they travel."""
        if self.decisions.is_waiting:
            self._share_equally(round_)
        else:
            self._put_in_force(self.decide(round_))

    def _share_equally(self, round_: int) -> None:
        for link, grants in self.decisions.shares_while_waiting(self.clock.now).items():
            self._network.grant(link, dict(enumerate(grants)), round_)

    def decide_on_reports(self, round_: int) -> None:
        """Ask the allocator what it waited to decide, now that reports have arrived."""
        self._apply_decision(round_)

    def decide(self, round_: int) -> Allocation:
        """Return the allocator's decision for the channel as it is now, checked against its limits."""
        return self.decisions.decide(self.clock.now, round_)

    def state(self, round_: int) -> CellState:
        """Return the snapshot an allocator sees."""
        return self.decisions.state(self.clock.now, round_)

    def start_round(self, round_: int, taking_part: Sequence[int] | None = None) -> None:
        """Ask the allocator again where it is to be asked at the beginning of a round.

        Parameters
        ----------
        round_
            Which round begins; they count from 1.
        taking_part
            Clients of this round, ascending; all without it.
        """
        everybody = range(self.num_clients)
        absent = set(everybody).difference(everybody if taking_part is None else taking_part)
        self.decisions.start_round(self.clock.now, round_, absent)
        if self.decisions.follows_rounds or (round_ > 1 and self.decisions.is_due(self.clock.now)):
            self._apply_decision(round_)

    @property
    def computes(self) -> bool:
        """Whether there are values at all."""
        return self._executor is not None and self._executor.computes

    def hold(self, refs: Callable[[], Iterable[Ref]]) -> None:
        """Keep these fields whenever values are computed: what later rounds build on, as it is then."""
        self._roots = refs

    def ask(self, read: Sequence[Ref], keep: Iterable[Ref] = ()) -> list[Any]:
        """Return values in the middle of a round, none where nothing is computed; no simulated time passes.

        What is held and ``keep`` are computed with them, so that nothing below is
        computed twice. What was to be measured by now is recorded, for the same reason.

        Raises
        ------
        DivergedError
            If the training has no finite numbers any more; what was measured before is recorded.
        """
        if self._executor is None:
            raise ValueError("a world is asked after it has begun")
        refs = [ref for *_, ref in self._measured]
        kept = list(dict.fromkeys([*self._roots(), *keep]))
        try:
            values = self._executor.materialise(kept, [*refs, *read])
        except NotFiniteError as found:
            self._record_known(found)
            raise self._diverged(found) from found
        for (time_ns, moment, actor, name, _), value in zip(self._measured, values, strict=False):
            self.log.metrics.add(time_ns, moment.round, moment.local_step, actor, name, value)
            self._of_round.setdefault(name, []).append(value)
        self._measured.clear()
        return values[len(refs) :]

    def _record_known(self, found: NotFiniteError) -> None:
        """Record what was measured up to the first value that is not finite, that value included."""
        for time_ns, moment, actor, name, ref in self._measured:
            value = found.known.get(ref.key)
            if value is None:
                return
            self.log.metrics.add(time_ns, moment.round, moment.local_step, actor, name, value)
            if not is_finite(value):
                return

    def _diverged(self, found: NotFiniteError) -> DivergedError:
        """Return the fault that says where in the run the first value was not finite."""
        places, metrics = self._places(), {ref: name for *_, name, ref in self._measured}
        placed = [(places[one.node.key], one) for one in found.refs if one.node.key in places]
        if not placed:  # asked before the round was played
            steps = [(self._place_of_step(one.node), one) for one in found.refs]
            placed = [(place, one) for place, one in steps if place is not None]
        (moment, actor), first = min(
            placed or [((Moment(self._round), MAIN_SERVER), found.refs[0])],
            key=lambda one: (one[0][0].round, one[0][0].local_step or float("inf")),
        )
        value = found.known.get(first.key) if first in metrics else None
        name = metrics.get(first, first.field)
        is_what = "has numbers that are not finite" if value is None else f"is {value:g}"
        step = f", local step {moment.local_step}" if moment.local_step else ""
        why = f"{_WHAT.get(name, name)} {is_what}"
        if found.fault:
            why += f", and nothing can be computed from that ({found.fault})"
        way_out = "lower training.optimizer.learning_rate, or give the optimizer a max_grad_norm"
        if moment.round == 0:
            way_out = "nothing was trained yet, so look at the weights of the model"
        if not found.fault:
            way_out += '; training.on_divergence = "continue" goes on'
        return DivergedError(f"round {moment.round}{step}, {actor}: the training diverged: {why}; {way_out}.")

    def _places(self) -> dict[str, tuple[Moment, str]]:
        """Return when in the training, and by whom, each node was measured or took its time, by its key."""
        spans = self.log.spans
        spans.settle()
        rows = zip(spans.work, spans.round, spans.local_step, spans.actor, strict=True)
        places: dict[str, tuple[Moment, str]] = {}
        for key, round_, local_step, actor in rows:
            places.setdefault(key, (Moment(round_, local_step), actor))
        return places | {ref.node.key: (moment, actor) for _, moment, actor, _, ref in self._measured}

    def _place_of_step(self, node: Node) -> tuple[Moment, str] | None:
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

    def is_counted(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        return self.decisions.is_counted(link)

    def loses(self, link: str) -> bool:
        """Return whether what is sent over a link may be lost."""
        return self._medium.loses(self._links[link])

    def sums(self, link: str) -> bool:
        """Return whether what clients send over a link at once arrives as a sum."""
        return self._medium.sums(self._links[link])

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
            why = self._network.too_weak()
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

    def send(
        self, link: str, client: int, name: str, moment: Moment, bits: int, node: Node, after: Sequence[int]
    ) -> Steps:
        """Send over the air, or at once over a link that is free; returns what was :class:`Sent`."""
        is_counted, now_ns = self.is_counted(link), self.clock.now
        self._begin_sending(link, [client])
        if is_counted:
            delivery: Delivery = yield from self._network.send(link, {client: Payload(bits)})
        else:
            delivery = Delivery.at_once(now_ns, [client])
        span = self._add_transfer(link, client, name, moment, bits, node, after, now_ns, delivery)
        if is_counted:
            self._network.leave(link, [client], span)
        return Sent(span, delivery)

    def _begin_sending(self, link: str, clients: Iterable[int]) -> None:
        for client in clients if self._links[link].is_uplink else ():
            self.decisions.sends(client)

    def send_at_once(self, link: str, name: str, moment: Moment, outgoing: Mapping[int, Outgoing]) -> Steps:
        """Send from several clients, or to several, in one transmission, now that the last of them is ready.

        Returns what was :class:`Sent` of each, in their order; they have one delivery
        in common. Each has a span, whose causes are its own and those of the last one.
        """
        is_counted = self.is_counted(link)
        self._begin_sending(link, outgoing)
        if is_counted:
            payloads = {client: one.payload for client, one in outgoing.items()}
            delivery: Delivery = yield from self._network.send(link, payloads)
        else:
            delivery = Delivery.at_once(self.clock.now, outgoing)
        end_of = self.log.spans.end_of
        last = max(
            (one.after for one in outgoing.values()), key=lambda after: max(map(end_of, after), default=0)
        )
        sent = [
            Sent(
                self._add_transfer(
                    *(link, client, name, moment, one.payload.bits, one.node),
                    tuple(dict.fromkeys((*one.after, *last))),
                    delivery.asked_ns,
                    delivery,
                ),
                delivery,
            )
            for client, one in outgoing.items()
        ]
        if is_counted:
            self._network.leave(link, list(outgoing), sent[-1].span)
        return sent

    def _add_transfer(
        self,
        link: str,
        client: int,
        name: str,
        moment: Moment,
        bits: int,
        node: Node,
        after: Sequence[int],
        asked_ns: int,
        delivery: Delivery,
    ) -> int:
        """Record one client's part in a transmission and return the number of the span."""
        ends = (self.client_names[client], self._links[link].server)
        is_uplink = self._links[link].is_uplink
        actor, peer = ends if is_uplink else ends[::-1]
        if is_uplink:
            airtime_ns, is_delivered = delivery.end_ns - delivery.start_ns, delivery.delivered[client]
            self.decisions.sent(
                client, bits, airtime_ns, delivery.energy_j[client], is_delivered=is_delivered
            )
        return self.log.spans.add(
            after if delivery.after_span is None else (*after, delivery.after_span),
            "transfer",
            name,
            actor,
            peer,
            moment.round,
            moment.local_step,
            asked_ns,
            delivery.start_ns,
            delivery.end_ns,
            bits,
            0,
            delivery.energy_j[client],
            node.key,
        )

    def together(self, processes: Sequence[Steps], name: str) -> Steps:
        """Let processes run side by side and return their results, in their order, when all have ended."""
        started = [self.clock.process(steps, f"{name} {number}") for number, steps in enumerate(processes)]
        yield self.clock.all_of(started)
        return [process.value for process in started]

    def measure(self, moment: Moment, actor: str, name: str, ref: Ref) -> None:
        """Record a learned value at this instant; it is computed when the round ends."""
        if self._executor is not None and self._executor.computes:
            self._measured.append((self.clock.now, moment, actor, name, ref))

    def note(self, moment: Moment, name: str, value: float) -> None:
        """Record a number of the time plane at this instant."""
        self.log.metrics.add(self.clock.now, moment.round, moment.local_step, MAIN_SERVER, name, value)

    def end_round(self, round_: int) -> None:
        """Compute what the round learned, and let go of how it came to be."""
        self.ask(())
        measured = {name: fmean(several) for name, several in self._of_round.items()}
        self._of_round.clear()
        self._round = round_ + 1
        self._watch(Progress(round_, self.clock.now, len(self.log.spans), measured))

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained in the format of its ecosystem; nothing where nothing was computed."""
        if self._executor is None or not self._executor.computes or self.adapter is None:
            return
        (files,) = self._executor.materialise((), [self.adapter])
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)

    @property
    def num_computed(self) -> int:
        """Nodes of the training computed in this run."""
        return 0 if self._executor is None else self._executor.num_computed

    @property
    def num_recalled(self) -> int:
        """Nodes of the training whose value the store had."""
        return 0 if self._executor is None else self._executor.num_recalled

    @property
    def fallback_reason(self) -> str | None:
        """Why nodes were computed one by one although they were to be batched, if they were."""
        return None if self._executor is None else self._executor.fallback_reason
