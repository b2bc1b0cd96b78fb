"""Split federated LoRA: first blocks on clients, the rest on a main server, adapters averaged."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from simpy.events import Process

from cosim.kernel.clock import Steps
from cosim.learning.lesson import Lesson
from cosim.learning.training import Exchange, Side, Training
from cosim.learning.work import Work
from cosim.radio.settings import LINKS
from cosim.schemes import Scheme, measure_evaluation
from cosim.units import seconds_to_ns
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Moment, World


class SplitFederated(Scheme):
    """The workflow of FedsLLM: split steps behind barriers, then one averaging of the client adapters.

    Each local step is three phases, each a barrier: all clients forward and
    upload; the main server computes forward and backward of all mini-batches
    and takes one step on the weighted sum of their losses; all clients receive
    the gradient of their own loss and step. After ``local_steps`` of them the
    client adapters are averaged, weighted by data. Labels travel with the
    activations and are not charged; neither are averaging and the optimiser's
    own arithmetic. Where clients have no adapter (``lora.blocks``) they only
    forward and upload: nothing comes back to them and nothing is averaged.

    Attributes
    ----------
    server_batch
        ``joint``: the main server begins when all activations are there and
        works on them as one job, as in the paper. ``per_client``: it serves
        each client's activations as they arrive, through its queue, and returns
        each gradient at once. What is learned is the same.
    deadline_s
        Seconds from the beginning of a local step before which activations must be
        with the main server. A client that is late is out for the rest of the
        round: it ends what it is doing, unheard, and is back with the next
        average. Weights are renormalised over those who stay; if all are late,
        the first one to arrive stays. Beyond the paper.

    Source
    ------
    FedsLLM, arXiv 2504.14667, workflow and delay model; the loss of each client
    is differentiated by itself, which returns the unweighted gradient to the
    client and needs no rescaling. Optimiser moments stay with the client over
    an averaging (our choice, the paper is silent).
    """

    kind: Literal["split_federated"] = "split_federated"
    links: ClassVar[frozenset[str]] = frozenset(LINKS)
    server_batch: Literal["joint", "per_client"] = "joint"
    deadline_s: float | None = Field(default=None, gt=0.0, le=1e9)

    @model_validator(mode="after")
    def _deadline_is_of_a_joint_batch(self) -> Self:
        if self.deadline_s is not None and self.server_batch != "joint":
            raise ValueError(
                "deadline_s needs server_batch = 'joint': a server that waits for nobody drops nobody"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """The three barriers of the paper hold with a joint batch that waits for everybody."""
        return self.server_batch == "joint" and self.deadline_s is None

    def memory_bytes(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides; a joint batch is held whole by the main server."""
        batches = lesson.num_clients if self.server_batch == "joint" else 1
        return {
            "client": lesson.client_memory_bytes(cut_layer, lora_rank),
            MAIN_SERVER: lesson.server_memory_bytes(cut_layer, lora_rank, batches),
        }

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = _Play(self, world, world.begin())
        play.evaluate(0)
        play.settle(0)
        for round_ in range(1, self.num_rounds + 1):
            world.start_round(round_)
            for local_step in range(1, self.local_steps + 1):
                yield from play.step(Moment(round_, local_step))
            yield from play.average(Moment(round_))
            if self.is_evaluated(round_):
                play.evaluate(round_)
            play.settle(round_)
        world.adapter = play.training.export(play.adapter, play.server.adapter)


class _Play:
    """One training under way.

    Attributes
    ----------
    adapter
        The client adapter all start the round from.
    sides
        Each client's side as it is now; those of clients that are out stay as they were.
    server
        The main server's side.
    taking_part
        Clients that are in this round.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: SplitFederated, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        start = training.start("client")
        self.adapter = start.adapter
        self.sides = [start] * world.num_clients
        self.server = training.start("server")
        self.taking_part = list(range(world.num_clients))
        self.ready: Sequence[int] = ()
        self._late: dict[int, Process] = {}

    def step(self, moment: Moment) -> Steps:
        """One local step of everybody who takes part, with the barriers of the paper."""
        number = (moment.round - 1) * self.scheme.local_steps + moment.local_step - 1
        exchanges = [
            self.training.exchange(client, self.sides[client], self.server, number)
            for client in self.taking_part
        ]
        if self.scheme.server_batch == "per_client":
            self.server = self.training.server_update(self.server, exchanges, number)
            steps = [self._exchange(moment, exchange) for exchange in exchanges]
            self.ready = yield from self.world.together(steps, "exchange of client")
        else:
            exchanges, arrived = yield from self._arrivals(moment, exchanges)
            self.server = self.training.server_update(self.server, exchanges, number)
            served = yield from self._serve(moment, self.server.adapter.work, exchanges, arrived)
            steps = [self._backward(moment, exchange, served) for exchange in exchanges]
            ended = yield from self.world.together(steps, "download and backward of client")
            self.ready = list(dict.fromkeys(ended))
        for exchange in exchanges:
            self.sides[exchange.client] = exchange.after

    def average(self, moment: Moment) -> Steps:
        """Upload of the client adapters, their average, and its download by everybody."""
        if self.training.client_trains:
            yield from self._average_adapters(moment)
        if self.scheme.deadline_s is not None:
            self.world.note(moment, "num_clients_in_time", len(self.taking_part))
        self.taking_part = list(range(self.world.num_clients))

    def _average_adapters(self, moment: Moment) -> Steps:
        bits, send = self.training.amounts.adapter_bits, self.world.send
        average = self.training.aggregate({client: self.sides[client] for client in self.taking_part})
        uploads = [
            send(
                "federated_uplink",
                client,
                "adapter_upload",
                moment,
                bits,
                self.sides[client].adapter.work,
                self.ready,
            )
            for client in self.taking_part
        ]
        arrived = yield from self.world.together(uploads, "adapter upload of client")
        averaged = yield from self.world.compute(
            FEDERATED_SERVER, "aggregate", moment, 0, average.work, arrived
        )
        downloads = [
            send("federated_downlink", client, "adapter_download", moment, bits, average.work, [averaged])
            for client in range(self.world.num_clients)
        ]
        self.ready = yield from self.world.together(downloads, "adapter download of client")
        self.adapter = average

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        evaluation = self.training.evaluate(self.adapter, self.server.adapter)
        measure_evaluation(self.world, Moment(round_), evaluation)

    def settle(self, round_: int) -> None:
        """Hand over to the next round: adapter, the server's side, and every optimiser's memory."""
        memory = [side.optimizer for side in self.sides]
        kept = self.world.settle(round_, [self.adapter, self.server.adapter, self.server.optimizer, *memory])
        self.adapter, server_adapter, server_optimizer, *memory = kept
        self.server = Side(server_adapter, server_optimizer)
        self.sides = [Side(self.adapter, optimizer) for optimizer in memory]

    def _arrivals(self, moment: Moment, exchanges: Sequence[Exchange]) -> Steps:
        """Let all forward and upload; returns the exchanges that are in time, and their uploads."""
        name = "forward and upload of client"
        steps = [self._forward(moment, exchange) for exchange in exchanges]
        if self.scheme.deadline_s is None:
            return exchanges, (yield from self.world.together(steps, name))
        clock = self.world.clock
        started = [clock.process(one, f"{name} {number}") for number, one in enumerate(steps)]
        deadline = clock.timeout(seconds_to_ns(self.scheme.deadline_s))
        yield clock.any_of([clock.all_of(started), deadline])
        if not any(process.processed for process in started):
            yield clock.any_of(started)
        in_time = [
            (exchange, process)
            for exchange, process in zip(exchanges, started, strict=True)
            if process.processed
        ]
        for exchange, process in zip(exchanges, started, strict=True):
            if not process.processed:
                self._late[exchange.client] = process
        self.taking_part = [exchange.client for exchange, _ in in_time]
        return [exchange for exchange, _ in in_time], [process.value for _, process in in_time]

    def _serve(
        self, moment: Moment, work: Work, exchanges: Sequence[Exchange], arrived: Sequence[int]
    ) -> Steps:
        """Compute forward and backward of all mini-batches on the main server as one job."""
        flop = self.training.amounts.server_flop * len(exchanges)
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, work, arrived
        )
        for exchange in exchanges:
            self._measure_loss(moment, exchange)
        return served

    def _exchange(self, moment: Moment, exchange: Exchange) -> Steps:
        """One mini-batch there and back, served by the main server when it arrives."""
        arrived = yield from self._forward(moment, exchange)
        flop = self.training.amounts.server_flop
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, exchange.server, [arrived]
        )
        self._measure_loss(moment, exchange)
        return (yield from self._backward(moment, exchange, served))

    def _forward(self, moment: Moment, exchange: Exchange) -> Steps:
        """Forward pass of one client, then the upload of its activations."""
        amounts, client = self.training.amounts, exchange.client
        ready = self.ready
        if client in self._late:  # it was out, and ends first what nobody waits for any more
            ready = (*ready, (yield self._late.pop(client)))
        flop, bits = amounts.client_forward_flop, amounts.activation_bits
        span = yield from self.world.compute(
            self.world.client_names[client], "client_forward", moment, flop, exchange.forward, ready
        )
        return (
            yield from self.world.send(
                "main_uplink", client, "activation_upload", moment, bits, exchange.forward, [span]
            )
        )

    def _backward(self, moment: Moment, exchange: Exchange, served: int) -> Steps:
        """Download of one client's gradient, then its backward pass and step, if it trains anything."""
        amounts, client = self.training.amounts, exchange.client
        if exchange.backward is None:
            return served
        flop, bits = amounts.client_backward_flop, amounts.gradient_bits
        span = yield from self.world.send(
            "main_downlink", client, "gradient_download", moment, bits, exchange.server, [served]
        )
        return (
            yield from self.world.compute(
                self.world.client_names[client], "client_backward", moment, flop, exchange.backward, [span]
            )
        )

    def _measure_loss(self, moment: Moment, exchange: Exchange) -> None:
        name = self.world.client_names[exchange.client]
        self.world.measure(moment, name, "train_loss", exchange.loss)
