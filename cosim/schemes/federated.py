"""Federated LoRA: every client holds the whole model, and only adapters travel."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.control.knobs import KEEP_RATIO, PARTICIPATION, WEIGHT, Knob, Setting, local_steps_up_to
from cosim.control.reports import REPORT, Report
from cosim.control.stages import Round
from cosim.control.state import Sparsity
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.amounts import WholeAmounts, download_bits, whole_amounts
from cosim.learning.codec import Codec
from cosim.learning.codec.none import Plain
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.codec.soft import Soft
from cosim.learning.codec.top_k import TopK
from cosim.learning.codecs import Codecs
from cosim.learning.federation import Federation
from cosim.learning.lesson import Lesson
from cosim.learning.payload import bits_are_known, upload_layout
from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.shape import ModelShape
from cosim.learning.sides import LocalRound
from cosim.learning.training import Training
from cosim.parts import OneOf
from cosim.radio.link import Link
from cosim.radio.medium import Payload
from cosim.rng import stream
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK, Scheme, measure_evaluation
from cosim.schemes.stages import whole_round
from cosim.schemes.uploads import AdapterUploads
from cosim.units import NS_PER_S
from cosim.world import FEDERATED_SERVER, Moment, Outgoing, Sent, World


class Federated(Scheme):
    """Local steps on the whole model, upload of the adapters, their average, and its download.

    In a round each client that takes part starts from the global adapter, takes
    ``local_steps`` steps on its own mini-batches and uploads at once, waiting for
    nobody; when all uploads are there the federated server averages them, and
    everybody downloads the average. Averaging and the
    optimiser's own arithmetic are charged nothing.

    With one client this is, bit for bit, what ``centralized`` learns.

    Over a medium that adds what is sent at once, clients wait for each other before
    they upload, and the server has the global adapter plus the weighted, noisy sum of
    their updates; ``air_noise_std`` is recorded, the noise on each number of it. Who
    the medium silences is left out like one whose upload is lost.

    An upload that the medium loses is left out of the average, the weights of the
    others are renormalised, and ``num_delivered`` is recorded; if all are lost the
    global adapter stays. Nothing is sent again, and what a codec held back of a
    lost upload waits as if it had arrived.

    Recorded of every average, unless models are personal: ``coherence``, how far the
    rank pairs of the global adapter are from orthogonal, and ``covariance_error``, how
    far the product of averaged factors is from the averaged product, relative to the
    round's step. A codec's figures, such as ``dropped_energy``, are recorded of each
    client and as their mean by data.

    Attributes
    ----------
    participation
        Share of the clients drawn for a round, rounded up; each set is as likely as any other.
    regularizer
        What is added to the loss of every mini-batch; recorded losses are without it.
    aggregator
        What is trained and sent, and how the adapters of a round are averaged.
    adapter_codec
        What adapters go up as; both ends have the one the round began from. What a
        client holds back waits for its next round. Averages come
        back as they are. Bits that hang on values are found out before the
        round is played; a run that computes no values charges the most they can be.
    downlink
        How the average comes back: ``unicast``, to each client on its own subchannels;
        ``multicast``, to all at once on the subchannels of all, at the rate of the
        weakest in every block, its energy charged once.

    Source
    ------
    H. B. McMahan et al., "Communication-efficient learning of deep networks from
    decentralized data", AISTATS 2017 (FedAvg), with LoRA factors as the weights;
    the wireless round is that of arXiv 2505.00333. Optimiser moments stay with
    the client over an averaging (our choice, the papers are silent).
    """

    kind: Literal["federated"] = "federated"
    links: ClassVar[tuple[Link, ...]] = (
        replace(FEDERATED_UPLINK, takes_sums=True, takes_losses=True),
        FEDERATED_DOWNLINK,
    )
    reportable: ClassVar[frozenset[str]] = frozenset({"energies", "loss", "delay"})
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    regularizer: Annotated[Regularizer, OneOf(Regularizer)] = Unregularized()
    aggregator: Annotated[Aggregator, OneOf(Aggregator)] = FEDAVG
    adapter_codec: Annotated[Codec, OneOf(Codec)] = Plain()
    downlink: Literal["unicast", "multicast"] = "unicast"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"participation": 0.6},
        {"participation": 0.6, "aggregator": {"kind": "fedex"}},
        {"regularizer": {"kind": "orthogonality"}},
        {"participation": 0.6, "adapter_codec": {"kind": "top_k"}},
        {"downlink": "multicast"},
    )

    @model_validator(mode="after")
    def _pairs_can_be_told_apart(self) -> Self:
        codec, regularizer = self.adapter_codec, self.regularizer
        if isinstance(codec, Soft) and codec.ranks_by_norm and regularizer.equalises_norms:
            raise ValueError(
                "regularizer.form = 'id' makes all rank pairs equally long, and adapter_codec.importance = "
                "'norm' tells them apart by length; take form = 'cos', or importance = 'delta'"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """Rounds last as their stages say while all take part, or a decision says in each who does."""
        return self.participation == 1.0 and self.aggregator.is_steady

    @property
    def averaging(self) -> Aggregator:
        """The aggregator."""
        return self.aggregator

    @property
    def codecs(self) -> Codecs:
        """The adapter's; nothing else travels."""
        return Codecs(adapter=self.adapter_codec)

    def multicasts(self, link: str) -> bool:
        """Return whether it is the downlink and set so."""
        return link == "federated_downlink" and self.downlink == "multicast"

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the number of blocks: all of them stay on the client."""
        return (shape.num_layers,)

    def knobs(self, lesson: Lesson) -> tuple[Knob, ...]:
        """Who takes part, with how many of the local steps, what weight, and how much of its adapter."""
        return (PARTICIPATION, local_steps_up_to(self.local_steps), WEIGHT, KEEP_RATIO)

    def phases(self, lesson: Lesson, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the round of those who are drawn and chosen for it."""
        clients, num_blocks = range(lesson.num_clients), lesson.shape.num_layers
        one, codec = whole_amounts(lesson, setting.lora_rank), self.adapter_codec
        drawn = self.taking_part(lesson.seed, lesson.num_clients, round_)
        each: list[WholeAmounts | None] = [None] * lesson.num_clients
        for client in filter(setting.takes_part, drawn):
            each[client] = one
            if KEEP_RATIO.name in setting.knobs and codec.keeps_ratio:
                layout = upload_layout(lesson, num_blocks, setting.lora_rank, round_)
                bits = codec.max_bits(layout, setting.of(KEEP_RATIO.name, client, 1.0))
                each[client] = replace(one, adapter_bits=bits)
        steps = [int(setting.of("local_steps", client, self.local_steps)) for client in clients]
        return whole_round(each, steps, reports, is_bound=not bits_are_known(lesson, num_blocks))

    def sparsity(self, lesson: Lesson, lora_rank: int, round_: int = 1) -> Sparsity | None:
        """Return what a codec of rank pairs, or one that fills a share of the bits, can leave out."""
        if self.why_no_sparsity(lesson, lora_rank) is not None:
            return None
        codec, (client_rank,) = self.adapter_codec, self._client_ranks(lesson, lora_rank)
        layout = upload_layout(lesson, lesson.shape.num_layers, client_rank, round_)
        if isinstance(codec, PairCodec):
            pair_bits = codec.pair_bits(layout)
            return Sparsity(int(pair_bits.sum()), codec.overhead_bits(layout), pair_bits)
        return Sparsity(layout.dense_bits, 0, np.zeros(0, dtype=np.int64))

    def why_no_sparsity(self, lesson: Lesson, lora_rank: int) -> str | None:
        """Return what about codec or ranks keeps an allocator from saying how much is left out."""
        codec, ranks = self.adapter_codec, self._client_ranks(lesson, lora_rank)
        if len(ranks) > 1:
            return (
                f"one share is not the same bits of clients whose ranks are {', '.join(map(str, ranks))}; "
                "give scheme.aggregator.client_ranks one rank for all, or take the allocator 'equal'"
            )
        if isinstance(codec, PairCodec):
            if codec.scope == "global":
                return None
            return (
                "scheme.adapter_codec.scope = 'module' rounds the share up in every matrix; take 'global', "
                "or the allocator 'equal'"
            )
        if isinstance(codec, TopK):
            if codec.ratio_of == "bits":
                return None
            return (
                "scheme.adapter_codec.ratio_of = 'numbers' is a share without the places of what is sent; "
                "take ratio_of = 'bits'"
            )
        return (
            f"the adapter_codec {codec.kind!r} leaves nothing out; take one that can, such as "
            "adapter_codec = { kind = 'soft' }"
        )

    def _client_ranks(self, lesson: Lesson, lora_rank: int) -> list[int]:
        """Return the ranks there are among the clients, ascending."""
        return sorted({self.aggregator.rank(client, lora_rank) for client in range(lesson.num_clients)})

    def memory_bytes(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the whole model's need on every client."""
        return {"client": lesson.whole_memory_bytes(lora_rank)}

    def taking_part(self, seed: int, num_clients: int, round_: int) -> list[int]:
        """Return the clients of a round, ascending."""
        count = ceil(self.participation * num_clients)
        if count == num_clients:
            return list(range(num_clients))
        drawn = stream(seed, "participation", round_).generator().permutation(num_clients)[:count]
        return sorted(drawn.tolist())

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = _Play(self, world, world.begin())
        play.evaluate(0)
        world.end_round(0)
        for round_ in range(1, self.num_rounds + 1):
            drawn = self.taking_part(world.lesson.seed, world.num_clients, round_)
            world.start_round(round_, drawn)
            yield from play.round(Moment(round_), list(filter(world.decisions.takes_part, drawn)))
            if self.is_evaluated(round_):
                play.evaluate(round_)
            world.end_round(round_)
        world.adapter = play.federation.export()


class _Play:
    """One training under way.

    Attributes
    ----------
    federation
        What clients and federated server hold.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: Federated, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        self.federation = Federation(training, "whole")
        self.uploads = AdapterUploads(
            world, self.federation, [world.lesson.shape.num_layers] * world.num_clients
        )
        self.ready: Sequence[int] = ()
        self._began_ns = 0
        self._delay_s: dict[int, float] = {}
        world.hold(self._refs)

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()

    def round(self, moment: Moment, senders: Sequence[int]) -> Steps:
        """Local steps and upload of those who take part, the average, and its download by everybody."""
        world, federation, self._began_ns = self.world, self.federation, self.world.clock.now
        learned = [self._learn(client, moment.round) for client in senders]
        is_awaited, sums = world.decisions.is_waiting, world.sums("federated_uplink")
        ready: dict[int, Sequence[int]] = {}
        if is_awaited:
            reports: Sequence[int] = yield from self._report(moment, learned)
            ready = dict.fromkeys(senders, reports)
        self._encode(moment, senders)
        if sums and not is_awaited:
            learning = [self._learn_locally(moment, one) for one in learned]
            trained = yield from world.together(learning, "local round of client")
            ready = dict(zip(senders, trained, strict=True))
        if sums:
            sent = [(yield from self.uploads.send_at_once(moment, ready))]
        else:
            steps = [
                self.uploads.send(one.client, moment, ready[one.client])
                if is_awaited
                else self._learn_and_upload(moment, one)
                for one in learned
            ]
            sent = yield from world.together(steps, "local round of client")
        average, figures = self._average(moment, sent)
        arrived = [one.span for one in sent]
        averaged = yield from world.compute(FEDERATED_SERVER, "aggregate", moment, 0, average, arrived)
        for name, figure in figures.items():
            world.measure(moment, FEDERATED_SERVER, name, figure)
        received = yield from self._download(moment, average, averaged, list(self.uploads.sent))
        self.ready = [one.span for one in received]
        federation.hand_out(moment.round + 1)
        if world.decisions.reports and not is_awaited:
            self._hear(moment.round, learned, is_awaited=False)

    def _learn(self, client: int, round_: int) -> LocalRound:
        """Describe what a client learns by itself."""
        scheme, federation = self.scheme, self.federation
        first = (round_ - 1) * scheme.local_steps
        count = int(self.world.decisions.knob("local_steps", client, scheme.local_steps))
        learned = self.training.local_round(
            client, federation.sides[client], range(first, first + count), scheme.regularizer
        )
        federation.sides[client] = learned.after
        return learned

    def _encode(self, moment: Moment, senders: Sequence[int]) -> None:
        """Let what was learned be encoded as it is decided now."""
        self.federation.weigh({one: self.world.decisions.knob("weight", one, 0.0) for one in senders})
        self.uploads.describe(moment.round, senders)
        if self.uploads.hang_on_values(moment.round):
            self.uploads.find_bits()

    def _report(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Local steps and reports of all, then the decision that waits for them; returns spans."""
        steps = [self._learn_locally(moment, one) for one in learned]
        arrived: list[list[int]] = yield from self.world.together(steps, "local round of client")
        self._hear(moment.round, learned, is_awaited=True)
        self.world.decide_on_reports(moment.round)
        return [span for spans in arrived for span in spans]

    def _hear(self, round_: int, learned: Sequence[LocalRound], *, is_awaited: bool) -> None:
        """Let the allocator know what has been reported to it."""
        decisions, wanted = self.world.decisions, {one.name for one in self.world.decisions.reports}
        senders = [one.client for one in learned]
        reported: dict[str, dict[int, Any]] = {}
        if "delay" in wanted:
            reported["delay"] = {client: self._delay_s[client] for client in senders}
        if "loss" in wanted and self.world.computes:
            losses = iter(self.world.ask([step.loss for one in learned for step in one.steps]))
            reported["loss"] = {one.client: fmean(next(losses) for _ in one.steps) for one in learned}
        if "energies" in wanted and self.world.computes and isinstance(self.scheme.adapter_codec, PairCodec):
            values = self.world.ask(self.uploads.energies(round_, senders))
            found = (np.asarray(value["energies"]) for value in values)
            reported["energies"] = dict(zip(senders, found, strict=True))
        decisions.hear(reported, is_awaited=is_awaited)

    def _download(self, moment: Moment, average: Node, averaged: int, senders: Sequence[int]) -> Steps:
        """Download of the average by everybody; returns what became of each transmission."""
        world, link, name = self.world, "federated_downlink", "adapter_download"
        bits = {
            client: self._download_bits(client, moment.round, senders) for client in range(world.num_clients)
        }
        if self.scheme.multicasts(link):
            once = Outgoing(Payload(max(bits.values())), average, [averaged])
            return [(yield from world.send_at_once(link, name, moment, dict.fromkeys(bits, once)))]
        downloads = [
            world.send(link, client, name, moment, size, average, [averaged]) for client, size in bits.items()
        ]
        return (yield from world.together(downloads, "adapter download of client"))

    def _average(self, moment: Moment, sent: Sequence[Sent]) -> tuple[Node, dict[str, Ref]]:
        """Return the average of what arrived and its figures; if nothing did, the global adapter stays."""
        world, before, distortion = self.world, self.federation.adapter, sent[0].delivery.distortion
        arrived = self.uploads.leave_out_lost(sent)
        if world.loses("federated_uplink") or world.sums("federated_uplink"):
            world.note(moment, "num_delivered", arrived)
        if arrived == 0:
            return before.node, {}
        if distortion is not None:
            world.note(moment, "air_noise_std", distortion.noise_std)
        average = self.uploads.average(moment.round)
        figures = self.federation.pair_figures(self.uploads.received, before)
        return average, self.uploads.mean_figures | figures

    def _learn_and_upload(self, moment: Moment, learned: LocalRound) -> Steps:
        """One client's local steps and reports, then its upload; returns what became of it."""
        ready = yield from self._learn_locally(moment, learned)
        return (yield from self.uploads.send(learned.client, moment, ready))

    def _learn_locally(self, moment: Moment, learned: LocalRound) -> Steps:
        """One client's local steps, one span each, then its reports; returns what its upload waits for."""
        world, amounts = self.world, self.training.whole_of(learned.client, moment.round)
        name, ready = world.client_names[learned.client], self.ready
        for number, step in enumerate(learned.steps, start=1):
            at = Moment(moment.round, number)
            span = yield from world.compute(
                name, "client_forward_backward", at, amounts.flop, step.node, ready
            )
            world.measure(at, name, "train_loss", step.loss)
            ready = [span]
        self._delay_s[learned.client] = (world.clock.now - self._began_ns) / NS_PER_S
        bits = sum(report.bits for report in world.decisions.reports)
        if bits:
            last = learned.steps[-1].node
            sent: Sent = yield from world.send(
                "federated_uplink", learned.client, REPORT, moment, bits, last, ready
            )
            ready = [sent.span]
        return ready

    def _download_bits(self, client: int, round_: int, senders: Sequence[int]) -> int:
        lesson, lora_rank = self.world.lesson, self.training.lora_rank
        rank = lesson.aggregator.rank(client, lora_rank)
        return download_bits(lesson, lesson.shape.num_layers, lora_rank, rank, round_, senders)

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        measure_evaluation(self.world, Moment(round_), self.federation.evaluate())
