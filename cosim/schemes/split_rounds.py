"""The rounds of split federated training: split steps behind barriers, then adapters are averaged."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from simpy.events import Process

from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.cuts_apart import FederationApart
from cosim.learning.federated_state import FederatedState
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.train_state import SplitStep
from cosim.learning.training import Training
from cosim.schemes import measure_evaluation
from cosim.schemes.uploads import AdapterUploads
from cosim.schemes.vocabulary import Averaged, broadcast, collect
from cosim.units import seconds_to_ns
from cosim.world import MAIN_SERVER, Moment, World

if TYPE_CHECKING:
    from cosim.schemes.split_federated import SplitFederated


class SplitRounds:
    """One training under way.

    Attributes
    ----------
    federation
        What clients and federated server hold; states of clients that are out stay as they were.
    server
        The main server's side.
    taking_part
        Clients that are in this round.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: "SplitFederated", world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        self.apart = FederationApart(training) if len(set(training.cuts)) > 1 else None
        self.federation = self.apart or FederatedState(
            training, "client", scheme.weights, scheme.server_optimizer
        )
        self.server = training.start("server")
        self.taking_part: list[int] = []
        self.ready: Sequence[int] = ()
        self.uploads = AdapterUploads(world, self.federation, training.cuts)
        self._late: dict[int, Process] = {}
        self._memories: list[tuple[Ref | None, Ref | None]] = [(None, None)] * world.num_clients
        world.hold(self._refs)

    @property
    def averages(self) -> bool:
        """Whether any client has an adapter to average."""
        return any(map(self.training.trains, range(self.world.num_clients)))

    def choose(self) -> None:
        """Let those take part in the round whom the decision that holds chooses."""
        clients = range(self.world.num_clients)
        self.taking_part = [client for client in clients if self.world.decisions.takes_part(client)]

    def split_step(self, moment: Moment) -> Steps:
        """One local step of everybody who takes part, with the barriers of the paper."""
        number = (moment.round - 1) * self.scheme.local_steps + moment.local_step - 1
        split_steps = [
            split_step(
                self.training,
                client,
                self.federation.states[client],
                self.server,
                number,
                self._memories[client],
            )
            for client in self.taking_part
        ]
        if self.scheme.server_batch == "per_client":
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
            self.federation.states[one_step.client] = one_step.after
            self._memories[one_step.client] = one_step.memories

    def collect(self, moment: Moment) -> Steps:
        """Let those who take part upload their adapters; returns their average."""
        round_ = moment.round
        self.uploads.describe(round_, filter(self.training.trains, self.taking_part))
        if self.uploads.hang_on_values(round_):
            self.uploads.find_bits()
        if self.apart is not None:
            self.apart.meet(self.server.adapter, self.taking_part)
        average = self.uploads.average(round_)
        sending = [self.uploads.send(client, moment, self.ready) for client in self.uploads.sent]
        uploads = self.world.together(sending, "adapter upload of client")
        decoded = self.uploads.decode_flop(round_)
        return (yield from collect(self.world, moment, uploads, lambda _: (average, decoded), self.ready))

    def broadcast(self, moment: Moment, average: Averaged) -> Steps:
        """Let everybody, those too who are out, download the average and begin the next round from it."""
        training, round_ = self.training, moment.round
        bits = {
            client: training.amounts.download_bits(client, cut, round_, self.taking_part)
            for client, cut in enumerate(training.cuts)
            if training.trains(client)
        }
        self.ready = yield from broadcast(self.world, moment, average, bits)
        self.federation.distribute_to_all(round_ + 1)
        if self.apart is not None:
            self.server = self.server._replace(adapter=self.apart.server_adapter)

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        evaluate = partial(self.federation.evaluate, self.server.adapter)
        measure_evaluation(self.world, Moment(round_), evaluate)

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()
        yield self.server.adapter
        yield self.server.optimizer
        yield from (one for both in self._memories for one in both if one is not None)

    def _arrivals(self, moment: Moment, split_steps: Sequence[SplitStep]) -> Steps:
        """Let all forward and upload; returns the split steps that are in time, and their uploads."""
        name = "forward and upload of client"
        steps = [self._forward(moment, one_step) for one_step in split_steps]
        if self.scheme.deadline_s is None:
            return split_steps, (yield from self.world.together(steps, name))
        clock = self.world.clock
        started = [clock.process(one, f"{name} {number}") for number, one in enumerate(steps)]
        deadline = clock.timeout(seconds_to_ns(self.scheme.deadline_s))
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
            MAIN_SERVER, "server_forward_backward", moment, flop, one_step.server, [arrived]
        )
        self._measure_loss(moment, one_step)
        return (yield from self._backward(moment, one_step, served))

    def _forward(self, moment: Moment, one_step: SplitStep) -> Steps:
        """Forward pass of one client, then the upload of its activations."""
        client = one_step.client
        amounts = self.training.amounts.split(client, moment.round)
        ready = self.ready
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
