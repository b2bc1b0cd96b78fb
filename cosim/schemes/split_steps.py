"""Split steps: mini-batches that clients and main server work on together, behind barriers or not."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from simpy.events import Process

from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.train_state import SplitStep, TrainState
from cosim.learning.training import Training
from cosim.schemes.vocabulary import catch_up
from cosim.units import seconds_to_ns
from cosim.world import MAIN_SERVER, Moment, World


class Holder(Protocol):
    """What holds the train state of each client."""

    states: list[TrainState]


class SplitSteps:
    """The split steps of one training under way.

    Parameters
    ----------
    holder
        Who holds the clients' sides.
    local_steps
        Split steps of a client in a round.
    is_joint
        Whether the main server works on all mini-batches as one job; else it serves each as it arrives.
    deadline_s
        Seconds of a split step after which the main server no longer waits.

    Attributes
    ----------
    server
        The main server's side.
    taking_part
        Clients that are in this round.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(
        self,
        world: World,
        training: Training,
        holder: Holder,
        local_steps: int,
        *,
        is_joint: bool = True,
        deadline_s: float | None = None,
    ) -> None:
        self.world, self.training, self.holder = world, training, holder
        self.local_steps, self.is_joint, self.deadline_s = local_steps, is_joint, deadline_s
        self.server = training.start("server")
        self.taking_part: list[int] = []
        self.ready: Sequence[int] = ()
        self._late: dict[int, Process] = {}
        self._memories: list[tuple[Ref | None, Ref | None]] = [(None, None)] * world.num_clients

    def refs(self) -> Iterator[Ref]:
        """Return what later split steps build on, beside the clients' sides."""
        yield self.server.adapter
        yield self.server.optimizer
        yield from (one for both in self._memories for one in both if one is not None)

    def split_step(self, moment: Moment, clients: Sequence[int]) -> Steps:
        """One local step of these clients, behind barriers where the main server works on a joint batch."""
        number = (moment.round - 1) * self.local_steps + moment.local_step - 1
        split_steps = [
            split_step(
                self.training,
                client,
                self.holder.states[client],
                self.server,
                number,
                self._memories[client],
            )
            for client in clients
        ]
        if not self.is_joint:
            self.server = server_update(self.training, self.server, split_steps, number)
            steps = [self._split_step(moment, one_step) for one_step in split_steps]
            self.ready = yield from self.world.together(steps, "split step of client")
        else:
            split_steps, arrived = yield from self._arrivals(moment, split_steps)
            self.server = server_update(self.training, self.server, split_steps, number)
            served = yield from self._serve(moment, self.server.adapter.node, split_steps, arrived)
            steps = [self._backward(moment, one_step, served) for one_step in split_steps]
            ended = yield from self.world.together(steps, "download and backward of client")
            self.ready = list(dict.fromkeys(ended))
        for one_step in split_steps:
            self.holder.states[one_step.client] = one_step.after
            self._memories[one_step.client] = one_step.memories

    def _arrivals(self, moment: Moment, split_steps: Sequence[SplitStep]) -> Steps:
        """Let all forward and upload; returns the split steps that are in time, and their uploads."""
        name = "forward and upload of client"
        steps = [self._forward(moment, one_step) for one_step in split_steps]
        if self.deadline_s is None:
            return split_steps, (yield from self.world.together(steps, name))
        clock = self.world.clock
        started = [clock.process(one, f"{name} {number}") for number, one in enumerate(steps)]
        deadline = clock.timeout(seconds_to_ns(self.deadline_s))
        yield clock.any_of([clock.all_of(started), deadline])
        if not any(process.processed for process in started):
            yield clock.any_of(started)
        in_time = [
            (one_step, process)
            for one_step, process in zip(split_steps, started, strict=True)
            if process.processed
        ]
        for one_step, process in zip(split_steps, started, strict=True):
            if not process.processed:
                self._late[one_step.client] = process
        self.taking_part = [one_step.client for one_step, _ in in_time]
        return [one_step for one_step, _ in in_time], [process.value for _, process in in_time]

    def _serve(
        self, moment: Moment, node: Node, split_steps: Sequence[SplitStep], arrived: Sequence[int]
    ) -> Steps:
        """Compute forward and backward of all mini-batches on the main server as one job."""
        flop = sum(self.training.amounts.split(one.client, moment.round).server_flop for one in split_steps)
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, node, arrived
        )
        for one_step in split_steps:
            self._measure_loss(moment, one_step)
        return served

    def _split_step(self, moment: Moment, one_step: SplitStep) -> Steps:
        """One mini-batch there and back, served by the main server when it arrives."""
        arrived = yield from self._forward(moment, one_step)
        flop = self.training.amounts.split(one_step.client, moment.round).server_flop
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, one_step.server, [arrived], one_step.client
        )
        self._measure_loss(moment, one_step)
        return (yield from self._backward(moment, one_step, served))

    def _forward(self, moment: Moment, one_step: SplitStep) -> Steps:
        """Forward pass of one client, then the upload of its activations."""
        client = one_step.client
        amounts = self.training.amounts.split(client, moment.round)
        ready = self.ready
        if client in self.world.attendance.missed:
            ready = yield from catch_up(self.world, client, moment, ready)
        if client in self._late:  # it was out, and ends first what nobody waits for any more
            ready = (*ready, (yield self._late.pop(client)))
        flop, bits = amounts.client_forward_flop, amounts.activation_bits
        span = yield from self.world.compute(
            self.world.client_names[client], "client_forward", moment, flop, one_step.forward, ready
        )
        sent = yield from self.world.send(
            "main_uplink", client, "activation_upload", moment, bits, one_step.upload.node, [span]
        )
        return sent.span

    def _backward(self, moment: Moment, one_step: SplitStep, served: int) -> Steps:
        """Download of one client's gradient, then its backward pass and step, if it trains anything."""
        client = one_step.client
        if one_step.backward is None or one_step.download is None:
            return served
        amounts = self.training.amounts.split(client, moment.round)
        flop, bits = amounts.client_backward_flop, amounts.gradient_bits
        sent = yield from self.world.send(
            "main_downlink", client, "gradient_download", moment, bits, one_step.download.node, [served]
        )
        return (
            yield from self.world.compute(
                self.world.client_names[client],
                "client_backward",
                moment,
                flop,
                one_step.backward,
                [sent.span],
            )
        )

    def _measure_loss(self, moment: Moment, one_step: SplitStep) -> None:
        name = self.world.client_names[one_step.client]
        self.world.measure(moment, name, "train_loss", one_step.loss)
