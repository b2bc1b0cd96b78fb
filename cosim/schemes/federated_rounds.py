"""The rounds of federated training: local steps, uploads, their average, and its download."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.control.reports import REPORT
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.amounts import download_bits
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.federation import Federation
from cosim.learning.sides import LocalRound
from cosim.learning.training import Training
from cosim.radio.medium import Payload
from cosim.schemes import measure_evaluation
from cosim.schemes.uploads import AdapterUploads
from cosim.transmissions import Outgoing, Sent
from cosim.units import NS_PER_S
from cosim.world import FEDERATED_SERVER, Moment, World

if TYPE_CHECKING:
    from cosim.schemes.federated import Federated


class FederatedRounds:
    """One training under way.

    Attributes
    ----------
    federation
        What clients and federated server hold.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: "Federated", world: World, training: Training) -> None:
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
        self.world.apply_decision(moment.round)
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
            for client, weight in distortion.weights.items():
                world.note(moment, "air_weight", weight, world.client_names[client])
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
