"""Split federated LoRA: first blocks on clients, the rest on a main server, adapters averaged."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from simpy.events import Process

from cosim.control.knobs import PARTICIPATION, Knob, Setting
from cosim.control.reports import Report
from cosim.control.stages import Round
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.amounts import download_bits, split_amounts
from cosim.learning.codec import Codec
from cosim.learning.codec.none import Plain
from cosim.learning.codecs import Codecs
from cosim.learning.cuts_apart import FederationApart
from cosim.learning.federation import Federation
from cosim.learning.lesson import Lesson
from cosim.learning.payload import bits_are_known
from cosim.learning.sides import Exchange
from cosim.learning.training import Training
from cosim.parts import OneOf, Part, family
from cosim.radio.link import Link
from cosim.schemes import (
    FEDERATED_DOWNLINK,
    FEDERATED_UPLINK,
    MAIN_DOWNLINK,
    MAIN_UPLINK,
    Scheme,
    measure_evaluation,
)
from cosim.schemes.stages import split_round
from cosim.schemes.uploads import AdapterUploads
from cosim.units import seconds_to_ns
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Moment, World


class SplitFederated(Scheme):
    """The workflow of FedsLLM: split steps behind barriers, then one averaging of the client adapters.

    Each local step is three phases, each a barrier: all clients forward and
    upload; the main server computes forward and backward of all mini-batches
    and takes one step on the weighted sum of their losses; all clients receive
    the gradient of their own loss and step. After ``local_steps`` of them the
    client adapters are averaged; the main server's blocks have one copy, which
    needs no averaging. Labels travel with the
    activations and are not charged; neither are averaging and the optimiser's
    own arithmetic. Where clients have no adapter (``lora.blocks``) they only
    forward and upload: nothing comes back to them and nothing is averaged.

    Where clients are cut at different blocks (``clients.cut_layer``, or an allocator with
    ``cut_per_client``; beyond the paper) the main server holds all blocks behind the
    smallest cut, computes each mini-batch from its client's cut on, and steps a
    block along the mean over the clients it computes it for. At the end of a round
    every block is averaged over all clients by their data, the server's version
    standing for those who do not keep it; what the servers tell each other for
    that stays at the base station and is not charged.

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
    aggregator
        What is trained of the client adapters and sent, and how they are averaged;
        ``fedavg`` is the paper's.
    activation_codec, gradient_codec
        What activations and their gradients travel as. The main server computes
        with the activations it decodes, and the client goes back with the gradient
        it decodes. With error feedback the client, and the server for each
        client, hold back; of what comes too late nothing is held back.
    adapter_codec
        What the clients' adapters go up as; both ends have the one the round
        began from. Averages come back as they are. Bits that hang on values are
        found out when they are sent; a run that computes no values charges the
        most they can be.

    Source
    ------
    FedsLLM, arXiv 2504.14667, workflow and delay model; the loss of each client
    is differentiated by itself, which returns the unweighted gradient to the
    client and needs no rescaling. Optimiser moments stay with the client over
    an averaging (our choice, the paper is silent).
    """

    kind: Literal["split_federated"] = "split_federated"
    links: ClassVar[tuple[Link, ...]] = (MAIN_UPLINK, FEDERATED_UPLINK, MAIN_DOWNLINK, FEDERATED_DOWNLINK)
    server_batch: Literal["joint", "per_client"] = "joint"
    deadline_s: float | None = Field(default=None, gt=0.0, le=1e9)
    aggregator: Annotated[Aggregator, OneOf(Aggregator)] = FEDAVG
    activation_codec: Annotated[Codec, OneOf(Codec)] = Plain()
    gradient_codec: Annotated[Codec, OneOf(Codec)] = Plain()
    adapter_codec: Annotated[Codec, OneOf(Codec)] = Plain()
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"aggregator": {"kind": "flora"}})

    @model_validator(mode="after")
    def _deadline_is_of_a_joint_batch(self) -> Self:
        if self.deadline_s is not None and self.server_batch != "joint":
            raise ValueError(
                "deadline_s needs server_batch = 'joint': a server that waits for nobody drops nobody"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """The barriers of the paper hold while they wait for everybody, and rounds are alike."""
        return self.deadline_s is None and self.aggregator.is_steady

    @field_validator("activation_codec", "gradient_codec")
    @classmethod
    def _needs_no_reference(cls, codec: Codec) -> Codec:
        if codec.needs_reference:
            able = ", ".join(repr(kind) for kind, part in family(Codec).items() if not _needs_reference(part))
            raise ValueError(
                f"{codec.kind!r} sends a difference to what both ends have, and they have no activations "
                f"in common; take one of {able}"
            )
        return codec

    @property
    def codecs(self) -> Codecs:
        """As the settings say."""
        return Codecs(self.activation_codec, self.gradient_codec, self.adapter_codec)

    @property
    def may_cut_apart(self) -> bool:
        """Clients may be cut at different blocks if what arrives of their adapters is simply averaged."""
        return self.aggregator.is_plain and not self.adapter_codec.has_mask

    @property
    def averaging(self) -> Aggregator:
        """The aggregator."""
        return self.aggregator

    def knobs(self, lesson: Lesson) -> tuple[Knob, ...]:
        """Who takes part in a round; cut layers and rank are a decision's own."""
        return (PARTICIPATION,)

    def phases(self, lesson: Lesson, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the barriers of a round; each client at its cut, and those who do not take part idle."""
        cuts = setting.cuts(lesson.num_clients)
        at = {cut: split_amounts(lesson, cut, setting.lora_rank) for cut in set(cuts)}
        each = [at[cut] if setting.takes_part(client) else None for client, cut in enumerate(cuts)]
        is_bound = not all(bits_are_known(lesson, cut) for cut in at)
        return split_round(each, self.local_steps, is_joint=self.server_batch == "joint", is_bound=is_bound)

    def memory_bytes(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides; a joint batch is held whole by the main server."""
        batches = lesson.num_clients if self.server_batch == "joint" else 1
        return {
            "client": lesson.client_memory_bytes(cut_layer, lora_rank),
            MAIN_SERVER: lesson.server_memory_bytes(cut_layer, lora_rank, batches),
        }

    def memory_bytes_apart(
        self, lesson: Lesson, client_cut_layers: Sequence[int], lora_rank: int
    ) -> dict[str, int]:
        """Return the need of each client, and of a main server that holds all behind the smallest cut."""
        names = (f"client-{client}" for client in range(lesson.num_clients))
        needs = [lesson.client_memory_bytes(cut, lora_rank) for cut in client_cut_layers]
        batches = [lesson.server_batch_bytes(cut, lora_rank) for cut in client_cut_layers]
        at_once = sum(batches) if self.server_batch == "joint" else max(batches)
        idle = lesson.server_memory_bytes(min(client_cut_layers), lora_rank, 0)
        return {**dict(zip(names, needs, strict=True)), MAIN_SERVER: idle + at_once}

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = _Play(self, world, world.begin())
        play.evaluate(0)
        world.end_round(0)
        for round_ in range(1, self.num_rounds + 1):
            world.start_round(round_)
            play.choose()
            for local_step in range(1, self.local_steps + 1):
                yield from play.step(Moment(round_, local_step))
            yield from play.average(Moment(round_))
            if self.is_evaluated(round_):
                play.evaluate(round_)
            world.end_round(round_)
        world.adapter = play.federation.export(play.server.adapter)


def _needs_reference(part: type[Part]) -> bool:
    return issubclass(part, Codec) and part.needs_reference


class _Play:
    """One training under way.

    Attributes
    ----------
    federation
        What clients and federated server hold; sides of clients that are out stay as they were.
    server
        The main server's side.
    taking_part
        Clients that are in this round.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: SplitFederated, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        self.apart = FederationApart(training) if len(set(training.cuts)) > 1 else None
        self.federation = self.apart or Federation(training, "client")
        self.server = training.start("server")
        self.taking_part: list[int] = []
        self.ready: Sequence[int] = ()
        self.uploads = AdapterUploads(world, self.federation, training.cuts)
        self._late: dict[int, Process] = {}
        self._memories: list[tuple[Ref | None, Ref | None]] = [(None, None)] * world.num_clients
        world.hold(self._refs)

    def choose(self) -> None:
        """Let those take part in the round whom the decision in force chooses."""
        clients = range(self.world.num_clients)
        self.taking_part = [client for client in clients if self.world.decisions.takes_part(client)]

    def step(self, moment: Moment) -> Steps:
        """One local step of everybody who takes part, with the barriers of the paper."""
        number = (moment.round - 1) * self.scheme.local_steps + moment.local_step - 1
        exchanges = [
            self.training.exchange(
                client, self.federation.sides[client], self.server, number, self._memories[client]
            )
            for client in self.taking_part
        ]
        if self.scheme.server_batch == "per_client":
            self.server = self.training.server_update(self.server, exchanges, number)
            steps = [self._exchange(moment, exchange) for exchange in exchanges]
            self.ready = yield from self.world.together(steps, "exchange of client")
        else:
            exchanges, arrived = yield from self._arrivals(moment, exchanges)
            self.server = self.training.server_update(self.server, exchanges, number)
            served = yield from self._serve(moment, self.server.adapter.node, exchanges, arrived)
            steps = [self._backward(moment, exchange, served) for exchange in exchanges]
            ended = yield from self.world.together(steps, "download and backward of client")
            self.ready = list(dict.fromkeys(ended))
        for exchange in exchanges:
            self.federation.sides[exchange.client] = exchange.after
            self._memories[exchange.client] = exchange.memories

    def average(self, moment: Moment) -> Steps:
        """Upload of the client adapters, their average, and its download by everybody."""
        if any(map(self.training.trains, range(self.world.num_clients))):
            yield from self._average_adapters(moment)
        if self.scheme.deadline_s is not None:
            self.world.note(moment, "num_clients_in_time", len(self.taking_part))

    def _average_adapters(self, moment: Moment) -> Steps:
        federation, round_, send = self.federation, moment.round, self.world.send
        self.uploads.describe(round_, filter(self.training.trains, self.taking_part))
        if self.uploads.hang_on_values(round_):
            self.uploads.find_bits()
        if self.apart is not None:
            self.apart.meet(self.server.adapter, self.taking_part)
        average = self.uploads.average(round_)
        sending = [self.uploads.send(client, moment, self.ready) for client in self.uploads.sent]
        sent = yield from self.world.together(sending, "adapter upload of client")
        arrived = [one.span for one in sent]
        averaged = yield from self.world.compute(
            FEDERATED_SERVER, "aggregate", moment, 0, average, arrived or self.ready
        )
        downloads = [
            send(
                "federated_downlink",
                client,
                "adapter_download",
                moment,
                self._download_bits(client, round_),
                average,
                [averaged],
            )
            for client in range(self.world.num_clients)
            if self.training.trains(client)
        ]
        arrived = yield from self.world.together(downloads, "adapter download of client")
        self.ready = [one.span for one in arrived]
        federation.hand_out(round_ + 1)
        if self.apart is not None:
            self.server = self.server._replace(adapter=self.apart.server_adapter)

    def _download_bits(self, client: int, round_: int) -> int:
        training = self.training
        rank = training.lesson.aggregator.rank(client, training.lora_rank)
        return download_bits(
            training.lesson, training.cuts[client], training.lora_rank, rank, round_, self.taking_part
        )

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        measure_evaluation(self.world, Moment(round_), self.federation.evaluate(self.server.adapter))

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()
        yield self.server.adapter
        yield self.server.optimizer
        yield from (one for both in self._memories for one in both if one is not None)

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
        self, moment: Moment, node: Node, exchanges: Sequence[Exchange], arrived: Sequence[int]
    ) -> Steps:
        """Compute forward and backward of all mini-batches on the main server as one job."""
        flop = sum(self.training.amounts_of(one.client, moment.round).server_flop for one in exchanges)
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, node, arrived
        )
        for exchange in exchanges:
            self._measure_loss(moment, exchange)
        return served

    def _exchange(self, moment: Moment, exchange: Exchange) -> Steps:
        """One mini-batch there and back, served by the main server when it arrives."""
        arrived = yield from self._forward(moment, exchange)
        flop = self.training.amounts_of(exchange.client, moment.round).server_flop
        served = yield from self.world.compute(
            MAIN_SERVER, "server_forward_backward", moment, flop, exchange.server, [arrived]
        )
        self._measure_loss(moment, exchange)
        return (yield from self._backward(moment, exchange, served))

    def _forward(self, moment: Moment, exchange: Exchange) -> Steps:
        """Forward pass of one client, then the upload of its activations."""
        client = exchange.client
        amounts = self.training.amounts_of(client, moment.round)
        ready = self.ready
        if client in self._late:  # it was out, and ends first what nobody waits for any more
            ready = (*ready, (yield self._late.pop(client)))
        flop, bits = amounts.client_forward_flop, amounts.activation_bits
        span = yield from self.world.compute(
            self.world.client_names[client], "client_forward", moment, flop, exchange.forward, ready
        )
        sent = yield from self.world.send(
            "main_uplink", client, "activation_upload", moment, bits, exchange.upload.node, [span]
        )
        return sent.span

    def _backward(self, moment: Moment, exchange: Exchange, served: int) -> Steps:
        """Download of one client's gradient, then its backward pass and step, if it trains anything."""
        client = exchange.client
        if exchange.backward is None or exchange.download is None:
            return served
        amounts = self.training.amounts_of(client, moment.round)
        flop, bits = amounts.client_backward_flop, amounts.gradient_bits
        sent = yield from self.world.send(
            "main_downlink", client, "gradient_download", moment, bits, exchange.download.node, [served]
        )
        return (
            yield from self.world.compute(
                self.world.client_names[client],
                "client_backward",
                moment,
                flop,
                exchange.backward,
                [sent.span],
            )
        )

    def _measure_loss(self, moment: Moment, exchange: Exchange) -> None:
        name = self.world.client_names[exchange.client]
        self.world.measure(moment, name, "train_loss", exchange.loss)
