"""Asynchronous federated LoRA: every upload is merged when it arrives, and nobody waits for anybody."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.codecs import Codecs
from cosim.learning.lesson import Lesson
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.operations.average import mean
from cosim.learning.payload import Transmission, held_bytes, upload_layout
from cosim.learning.shape import ModelShape
from cosim.learning.sides import Guidance, Side
from cosim.learning.training import Training
from cosim.parts import OneOf
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK, measure_evaluation
from cosim.schemes.updates import SendsUpdates
from cosim.world import FEDERATED_SERVER, Moment, World


class Asynchronous(SendsUpdates):
    """Clients train, upload and go on by themselves; the server merges what arrives, in order of arrival.

    A client takes ``local_steps`` steps on its own mini-batches from the global adapter it
    downloaded last, uploads its adapter, and downloads the global adapter again once the server
    has merged the upload. With the mixing weight ``a = mixing * s(staleness)`` the
    global adapter becomes ``(1 - a) * global + a * upload``, factor by factor. The staleness of
    an upload counts the merges since its client's download. There is no barrier anywhere: a round is
    one local update, numbered in the order in which they begin; rounds overlap, and may end in
    another order. A run begins ``num_rounds`` of them, and ends when all are merged. Merging and
    the optimiser's own arithmetic are charged nothing; what steps on an update declare is, before
    the upload and before the merge.

    Mini-batches and the learning rate's schedule go by a client's own steps, so what a client
    draws does not depend on the others. Which uploads meet which global adapter does depend on
    times: unlike in synchronous schemes, another channel leads to other values.
    With one client and ``mixing = 1`` this is, bit for bit, what ``centralized`` learns.

    Recorded of each merge: ``staleness`` and ``mixing_weight``.

    Attributes
    ----------
    num_rounds
        Local updates in the run, those of all clients together.
    evaluate_every
        Merges between two evaluations.
    mixing
        Weight of an upload that is not stale.
    staleness
        ``s`` of a staleness ``n``: ``constant`` 1; ``polynomial`` ``(n + 1) ** -exponent``;
        ``hinge`` 1 up to ``hinge_after``, then ``1 / (exponent * (n - hinge_after) + 1)``.
    exponent
        How fast the weight falls.
    hinge_after
        Merges that may pass before the weight falls.
    local_rule
        What corrects the gradients of local steps by where the update began.
    adapter_codec
        What adapters go up as; both ends have the one the client downloaded, and what a codec
        leaves out counts as unchanged since. Global adapters go down as they are.

    Source
    ------
    C. Xie, S. Koyejo, I. Gupta, "Asynchronous federated optimization", arXiv 1903.03934
    (FedAsync), from the abstract and our knowledge of the method; the paper itself was not at hand. Its
    proximal term is ``local_rule = { kind = "proximal" }``. We leave out its limit on the staleness, and
    train without pauses where its server triggers clients at random times. Optimiser moments stay with
    the client.
    """

    kind: Literal["asynchronous"] = "asynchronous"
    links: ClassVar[tuple[Link, ...]] = (FEDERATED_UPLINK, FEDERATED_DOWNLINK)
    is_synchronous: ClassVar[bool] = False
    mixing: float = Field(default=0.6, gt=0.0, le=1.0)
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    exponent: float = Field(default=0.5, ge=0.0, le=100.0)
    hinge_after: int = Field(default=4, ge=0)
    local_rule: Annotated[LocalRule, OneOf(LocalRule)] = NO_RULE
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"staleness": "hinge", "hinge_after": 1, "adapter_codec": {"kind": "top_k"}},
    )

    @field_validator("local_rule")
    @classmethod
    def _has_no_variates(cls, rule: LocalRule) -> LocalRule:
        if rule.has_variates:
            raise ValueError(
                f"{rule.kind!r} moves a common control variate by the mean over a round, and nothing is "
                "averaged here; take 'proximal', or the scheme 'federated'"
            )
        return rule

    @property
    def rule(self) -> LocalRule:
        """The local rule."""
        return self.local_rule

    @property
    def codecs(self) -> Codecs:
        """The adapter's; nothing else travels."""
        return Codecs(adapter=self.adapter_encoding)

    def num_client_steps(self, num_clients: int) -> int:
        """Return the local steps of a client if all take as many local updates."""
        return -(-self.num_rounds // num_clients) * self.local_steps

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the number of blocks: all of them stay on the client."""
        return (shape.num_layers,)

    def memory_bytes(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the whole model's need on every client."""
        held = held_bytes(lesson, lesson.shape.num_layers, lora_rank)
        return {"client": lesson.whole_memory_bytes(lora_rank) + held}

    def mixing_weight(self, staleness: int) -> float:
        """Return the weight of an upload after which so many merges came first.

        Examples
        --------
        >>> one = Asynchronous(mixing=0.5, staleness="hinge", exponent=1.0, hinge_after=2)
        >>> [one.mixing_weight(n) for n in (0, 2, 3)]
        [0.5, 0.5, 0.25]
        """
        if self.staleness == "polynomial":
            return float(self.mixing * (staleness + 1) ** -self.exponent)
        if self.staleness == "hinge" and staleness > self.hinge_after:
            return self.mixing / (self.exponent * (staleness - self.hinge_after) + 1.0)
        return self.mixing

    def run(self, world: World) -> Steps:
        """Let every client train by itself until all local updates are merged."""
        play = _Play(self, world, world.begin())
        play.evaluate(0)
        world.report(0)
        yield from world.together([play.client(number) for number in range(world.num_clients)], "client")
        world.report(self.num_rounds)
        world.adapter = play.training.export(play.adapter)


@dataclass
class _Client:
    """What a client holds.

    Attributes
    ----------
    side
        Its adapter and optimiser.
    start, version
        The global adapter it downloaded last, and how many merges had made that one.
    num_steps
        Local steps it has begun so far.
    memory
        What it holds back of its uploads.
    in_flight
        What the server will receive of the upload under way.
    """

    side: Side
    start: Ref
    version: int = 0
    num_steps: int = 0
    memory: Ref | None = None
    in_flight: Ref | None = None


class _Play:
    """One training under way.

    Attributes
    ----------
    adapter
        The global adapter.
    version
        How many merges made it.
    """

    def __init__(self, scheme: Asynchronous, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        start = training.start("whole")
        self.adapter, self.version = start.adapter, 0
        self._clients = [_Client(start, start.adapter) for _ in range(world.num_clients)]
        self._begun, self._evaluated = 0, 0
        layout = upload_layout(world.lesson, world.lesson.shape.num_layers, training.lora_rank, 1)
        self.codec = scheme.adapter_encoding
        self._bits, self._most_bits = self.codec.bits(layout), self.codec.max_bits(layout)
        self._encode_flop, self._decode_flop = self.codec.encode_flop(layout), self.codec.decode_flop(layout)
        world.hold(self._refs)

    def _refs(self) -> Iterator[Ref]:
        """Return what later updates build on."""
        yield self.adapter
        for one in self._clients:
            yield from (one.side.adapter, one.side.optimizer, one.start)
            yield from (ref for ref in (one.memory, one.in_flight) if ref is not None)

    def client(self, number: int) -> Steps:
        """Local update after local update of one client, as long as there are any to begin."""
        ready: Sequence[int] = ()
        while self._begun < self.scheme.num_rounds:
            self._begun += 1
            moment = Moment(self._begun)
            self.world.begin_round(moment.round, [number])
            self.world.consult(moment.round)
            ready = yield from self._update(number, moment, ready)
            self.world.close_round(moment.round)

    def _update(self, number: int, moment: Moment, ready: Sequence[int]) -> Steps:
        """One local update, its upload, the merge, and the download of what came of it."""
        world, amounts = self.world, self.training.whole_of(number, moment.round)
        name, client = world.client_names[number], self._clients[number]
        steps = range(client.num_steps, client.num_steps + self.scheme.local_steps)
        guidance = Guidance(self.scheme.local_rule, {"start": client.start})
        learned = self.training.local_round(number, client.side, steps, guidance=guidance)
        client.side, client.num_steps = learned.after, steps.stop
        for local_step, step in enumerate(learned.steps, start=1):
            at = Moment(moment.round, local_step)
            span = yield from world.compute(
                name, "client_forward_backward", at, amounts.flop, step.node, ready
            )
            world.measure(at, name, "train_loss", step.loss)
            ready = [span]
        sent = self._encode(number)
        for figure, value in sent.figures.items():
            world.measure(moment, name, figure, value)
        if self._encode_flop:
            encoding = world.compute(name, "encode_update", moment, self._encode_flop, sent.node, ready)
            ready = [(yield from encoding)]
        arrived = yield from world.send(
            "federated_uplink", number, "adapter_upload", moment, self._bits_of(sent), sent.node, ready
        )
        ready = [arrived.span]
        if self._decode_flop:  # before it can be merged: another may be merged meanwhile
            decoding = world.compute(
                FEDERATED_SERVER, "decode_update", moment, self._decode_flop, sent.node, ready
            )
            ready = [(yield from decoding)]
        merge = self._merge(moment, sent.tensors, client)
        merged = yield from world.compute(FEDERATED_SERVER, "aggregate", moment, 0, merge, ready)
        self._evaluate_if_due()
        client.start, client.version = self.adapter, self.version
        client.side = client.side._replace(adapter=self.adapter)
        bits, received = amounts.adapter_download_bits, self.adapter.node
        downloaded = yield from world.send(
            "federated_downlink", number, "adapter_download", moment, bits, received, [merged]
        )
        return [downloaded.span]

    def _encode(self, number: int) -> Transmission:
        """Return what a client sends of its adapter; what it holds back waits for its next upload."""
        client = self._clients[number]
        sent = self.training.transmit(
            self.codec,
            client.side.adapter,
            "federated_uplink",
            number,
            client.num_steps,
            reference=client.start,
            memory=client.memory,
        )
        if sent.memory is not None:
            client.memory = sent.memory
        client.in_flight = sent.tensors
        return sent

    def _bits_of(self, sent: Transmission) -> int:
        """Return the bits of an upload; those that depend on values are found out, at no simulated time."""
        if self._bits is not None:
            return self._bits
        if not self.world.computes:
            return self._most_bits
        (bits,) = self.world.ask([sent.others["bits"]], keep=sent.others.values())
        return int(bits)

    def _merge(self, moment: Moment, received: Ref, client: _Client) -> Node:
        """Return the node of the server on an upload that arrives now; it makes the global adapter."""
        staleness = self.version - client.version
        weight = self.scheme.mixing_weight(staleness)
        self.world.note(moment, "staleness", staleness)
        self.world.note(moment, "mixing_weight", weight)
        terms = {self.adapter: 1.0 - weight, received: weight}
        weights = [share for share in terms.values() if share > 0.0]
        node = self.training.graph.add(mean, [ref for ref in terms if terms[ref] > 0.0], weights=weights)
        self.adapter, self.version = node.ref("adapter"), self.version + 1
        client.in_flight = None
        return node

    def _evaluate_if_due(self) -> None:
        """Record how good the model is, under the number of merges; all values so far are computed."""
        merges = self.version
        if self.scheme.is_evaluated(merges) and merges > self._evaluated:
            self._evaluated = merges
            self.evaluate(merges)
            self.world.report(merges)

    def evaluate(self, merges: int) -> None:
        """Record how good the global adapter is."""
        measure_evaluation(self.world, Moment(merges), self.training.evaluate(self.adapter))
