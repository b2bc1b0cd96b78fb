"""What the scheme of a task acts through: devices and air of the site, decisions, values to be measured."""

from collections.abc import Callable, Collection, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.stages import FEDERATED_SERVER as FEDERATED_SERVER
from cosim.control.stages import MAIN_SERVER as MAIN_SERVER
from cosim.errors import ScenarioError
from cosim.files import write_whole
from cosim.granting import Granting
from cosim.graph.executor import Executor
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.kernel.job import NEVER_NS
from cosim.learning.task import Task
from cosim.learning.training import Training
from cosim.measuring import Measuring, Place
from cosim.measuring import Moment as Moment
from cosim.measuring import Progress as Progress
from cosim.radio.channel import Channel
from cosim.radio.link import Link
from cosim.site import Site
from cosim.transmissions import Transmissions
from cosim.units import NS_PER_S


class World:
    """A task's part of a run; its scheme acts through it.

    What tasks share is the site. What is recorded bears the name of the task, and
    decisions are about its rounds; the grants that any task decides on hold for all.

    Parameters
    ----------
    site
        Clock, log, devices and air.
    task
        What is learned.
    decisions
        Who is asked what is granted, and the channel as it is now.
    links
        What the scheme sends over.
    executor
        Who computes values at the rank the allocator decided on.
    watch
        Called at the end of each round.

    Attributes
    ----------
    send, send_at_once, is_modelled, loses, sums, signalling
        Of :class:`cosim.transmissions.Transmissions`: what is sent over a link, and what comes of it.
    hold, ask
        Of :class:`cosim.measuring.Measuring`: what is kept of values, and values in the middle of a round.
    together, is_on, let_in, wait_for_power
        Of the site: processes side by side; whether batteries let clients go on, and begin.
    decide_again, consult
        Of :class:`cosim.granting.Granting`: the allocator asked when reports have arrived, or a round begins.
    adapter
        What the scheme leaves in the end.
    attendance
        Who of the clients is there, and who is out of this round.
    """

    def __init__(
        self,
        *,
        site: Site,
        task: Task,
        decisions: Decisions,
        links: Collection[Link],
        executor: Callable[[int], Executor],
        watch: Callable[[Progress], None],
    ) -> None:
        self.site, self.task, self.decisions = site, task, decisions
        self.clock, self.log, self.client_names = site.clock, site.log, site.client_names
        self.adapter: Ref | None = None
        self._make_executor = executor
        self._measuring = values = Measuring(
            self.log, task.name, self._place_of_step, lambda: (Moment(self._granting.round_), MAIN_SERVER)
        )
        sending = Transmissions(site, decisions, links, task.name)
        self.send, self.send_at_once = sending.send, sending.send_at_once
        self.is_modelled, self.loses, self.sums = sending.is_modelled, sending.loses, sending.sums
        self.attendance = sending.attendance
        self.hold, self.ask, self.together = values.hold, values.ask, site.together
        self.is_on, self.let_in, self.wait_for_power = site.is_on, site.let_in, site.wait_for_power
        self.signalling = sending.signalling
        self._watch = watch
        self._training: Training | None = None
        self._granting = granting = Granting(site, decisions, task.name, self.loses, self.note)
        self.decide_again, self.consult = granting.decide_again, granting.consult

    @property
    def channel(self) -> Channel:
        """The channel as it is now."""
        return self.decisions.channel

    @property
    def num_clients(self) -> int:
        """How many clients take part."""
        return len(self.client_names)

    def begin(self) -> Training:
        """Decide who gets what, apply it, and return the training at the decided cut and rank.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        allocation = self.begin_air()
        noted = {"lora_rank": float(allocation.lora_rank)} if self.task.trainable.has_factors else {}
        noted["cut_layer"] = float(allocation.cut_layer)
        if allocation.plan is not None and self.decisions.predicted_round_s() is not None:
            noted["predicted_total_s"] = allocation.plan.total_s
        for name, value in noted.items():
            self.note(Moment(0), name, value)
        for name, cut in zip(self.client_names, allocation.client_cut_layers or (), strict=False):
            self.note(Moment(0), "cut_layer", float(cut), name)
        self._training = Training(
            self.task, allocation.cut_layer, allocation.lora_rank, allocation.client_cut_layers
        )
        return self._training

    def begin_air(self) -> Allocation:
        """Decide who gets what, apply it and return it; ``begin`` does so for a training.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        allocation = self._granting.begin()
        self._measuring.executor = self._make_executor(allocation.lora_rank)
        return allocation

    def begin_round(self, round_: int, taking_part: Sequence[int] | None = None) -> None:
        """Record that a round begins, with these clients; all without it. Rounds may overlap."""
        if self._training is not None:
            everybody = range(self.num_clients)
            clients = everybody if taking_part is None else taking_part
            self._training.move(clients, self.clock.now / NS_PER_S)
        names = self.client_names  # one tuple for all rounds of everybody
        if taking_part is not None and len(taking_part) < len(names):
            names = tuple(names[client] for client in taking_part)
        self.log.rounds.begin(self.clock.now, round_, names, task=self.task.name)

    def start_round(self, round_: int, taking_part: Sequence[int] | None = None) -> Steps:
        """Begin a round of a scheme whose rounds follow one another; the allocator is asked if it is due.

        Returns the spans of what it took to know the channel, which the round waits for.

        Parameters
        ----------
        round_
            Which round begins; they count from 1.
        taking_part
            Clients of this round, ascending; all without it.
        """
        self.begin_round(round_, taking_part)
        return (yield from self.consult(round_, taking_part))

    def known(self, name: str) -> tuple[float, float] | None:
        """Return the first and the last value of a metric that was learned; None where there is none."""
        return self._measuring.known.get(name)

    @property
    def computes(self) -> bool:
        """Whether there are values at all."""
        return self._measuring.computes

    def _place_of_step(self, node: Node) -> Place | None:
        """Return when and whose an optimiser's step is, from the node's parameters; None of other nodes."""
        if "step" not in node.params:
            return None
        round_, local_step = divmod(node.params["step"], self.decisions.terms.local_steps)
        batches = (one.node.params["batch"] for one in node.inputs if "batch" in one.node.params)
        rows = {row for batch in batches for row in batch["rows"]}
        shares = zip(self.client_names, self.task.shares, strict=True)
        whose = [name for name, share in shares if rows and rows <= set(share)]
        return Moment(round_ + 1, local_step + 1), whose[0] if whose else MAIN_SERVER

    def plan(self) -> dict[str, Any] | None:
        """Return what was to be expected of the first decision, and record how far it is from the bound."""
        plan = self.decisions.plan()
        if plan is not None and plan["gap_to_bound"] is not None:
            name, value = "gap_to_bound", plan["gap_to_bound"]
            self.log.metrics.add(0, 0, 0, MAIN_SERVER, name, value, task=self.task.name)
        return plan

    def play(self, scheme: Steps) -> None:
        """Let a scheme run to its end by itself; see :meth:`cosim.site.Site.play`."""
        self.site.play([scheme])

    def compute(
        self,
        actor: str,
        name: str,
        moment: Moment,
        flop: int,
        node: Node,
        after: Sequence[int],
        client: int = 0,
    ) -> Steps:
        """Compute on a device, after waiting for its queue; returns the number of the span.

        ``client`` is for whom: those who ask a server at one instant are served in the order of clients.
        """
        queue, clock, comings = self.site.queues[actor], self.clock, None
        if self.attendance.anybody_leaves:
            if self.attendance.is_out(actor, moment, after):
                return self.attendance.out[actor]
            comings = self.attendance.of(actor)
        asked_ns = clock.now
        turn = queue.enter(client)
        made_room = None if turn is None else (yield turn)
        if comings is not None:
            yield from self.attendance.until_there((actor,))
        start_ns = clock.now
        duration_ns, energy_j = self.site.cost(actor, flop, name)
        if start_ns + duration_ns >= NEVER_NS:
            raise ScenarioError(
                f"{actor}: {name} of {flop:.3g} FLOP takes {duration_ns / NS_PER_S:.3g} s at "
                f"{self.site.devices[actor].flop_per_s:.3g} FLOP/s, and simulated time ends after 292 years; "
                "give it a faster clock_hz."
            )
        work = None
        if comings is not None and duration_ns:
            work = comings.work(start_ns, duration_ns)
            if work.end_ns >= NEVER_NS:
                yield clock.event(f"{actor} to come back")
            if work.worked_ns != duration_ns:  # some of it was lost, or is never done
                flop = round(flop * work.worked_ns / duration_ns)
                energy_j *= work.worked_ns / duration_ns
            if work.away_ns:
                self.note(moment, "away_s", work.away_ns / NS_PER_S, actor)
            duration_ns = work.end_ns - start_ns
        charge, share = self.site.charges.get(actor), 1.0
        if charge is not None:
            share = charge.share_of(start_ns, duration_ns, energy_j)
            duration_ns, flop, energy_j = ceil(share * duration_ns), int(share * flop), share * energy_j
        yield clock.timeout(duration_ns)
        if charge is not None:
            energy_j = self.site.spend(actor, start_ns, energy_j)
        span = self.log.spans.add(
            after,
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
            energy_j,
            node.key,
            task=self.task.name,
            made_room=made_room,
        )
        queue.leave(span)
        if work is not None and not work.is_done and share == 1.0:  # else its battery was empty before
            self.attendance.drop(actor, moment, span)
        return span

    def measure(self, moment: Moment, actor: str, name: str, ref: Ref) -> None:
        """Record a learned value at this instant; it is computed when the round ends."""
        self._measuring.measure(self.clock.now, moment, actor, name, ref)

    def note(self, moment: Moment, name: str, value: float, actor: str = MAIN_SERVER) -> None:
        """Record a number of the time plane at this instant."""
        self.log.metrics.add(
            self.clock.now, moment.round, moment.local_step, actor, name, value, task=self.task.name
        )

    def end_round(self, round_: int) -> None:
        """Record that a round ends, if it has begun, and compute what was learned until then.

        Round 0, the evaluation before training, takes no time and is recorded only where
        a scheme begins it, as one does that sets something up.
        """
        if self.log.rounds.goes_on(round_, task=self.task.name) or round_:
            self.close_round(round_)
        self.report(round_)

    def close_round(self, round_: int) -> None:
        """Record that a round ends, and what batteries hold then."""
        self.log.rounds.end(self.clock.now, round_, task=self.task.name)
        for name, charge in self.site.charges.items():
            charge.draw(self.clock.now)
            self.note(Moment(round_), "battery_j", charge.left_j, name)

    def report(self, round_: int) -> None:
        """Compute what was learned so far, let go of how it came to be, and say how far the run is."""
        self.ask(())
        self._granting.round_ = max(self._granting.round_, round_ + 1)
        self._watch(
            Progress(
                round_,
                self.clock.now,
                self.log.num_spans,
                self._measuring.means(),
                self.log.rounds.num_ended,
                self.task.name,
            )
        )

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained in the format of its ecosystem; nothing where nothing was computed."""
        executor = self._measuring.executor
        if executor is None or not executor.computes or self.adapter is None:
            return
        (files,) = executor.materialise((), [self.adapter])
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)

    @property
    def executor(self) -> Executor | None:
        """Who computes values; None before a run has begun."""
        return self._measuring.executor
