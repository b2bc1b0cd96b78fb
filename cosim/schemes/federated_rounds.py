"""The rounds of federated training: local updates are collected, averaged and broadcast."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.control.reports import REPORT
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.federated_state import FederatedState
from cosim.learning.train_state import LocalRound
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.schemes import measure_evaluation
from cosim.schemes.uploads import AdapterUploads
from cosim.schemes.vocabulary import Averaged, broadcast, collect, local_update
from cosim.transmissions import Sent
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
        self.federation = FederatedState(training, "whole", scheme.weights, scheme.server_optimizer)
        num_blocks = world.task.shape.num_layers
        self.uploads = AdapterUploads(world, self.federation, [num_blocks] * world.num_clients)
        self.ready: Sequence[int] = ()
        self._num_blocks = num_blocks
        self._began_ns = 0
        self._delay_s: dict[int, float] = {}
        world.hold(self._refs)

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()

    def collect(self, moment: Moment, senders: Sequence[int]) -> Steps:
        """Let each of these clients update the model on its data and upload; returns their average."""
        self._began_ns = self.world.clock.now
        learned = [self._learn(client, moment.round) for client in senders]
        before, figures = self.federation.adapter, dict[str, Ref]()

        def average(sent: Sequence[Sent]) -> tuple[Node, int]:
            node, found = self._average(moment, sent, before)
            figures.update(found)
            return node, self.uploads.decode_flop(moment.round)

        averaged = yield from collect(self.world, moment, self._updates(moment, learned), average, self.ready)
        for name, figure in figures.items():
            self.world.measure(moment, FEDERATED_SERVER, name, figure)
        return averaged

    def broadcast(self, moment: Moment, average: Averaged) -> Steps:
        """Let everybody, senders or not, download the average and begin the next round from it."""
        training, senders = self.training, list(self.uploads.sent)
        bits = {
            client: training.amounts.download_bits(client, self._num_blocks, moment.round, senders)
            for client in range(self.world.num_clients)
        }
        multicasts = self.scheme.multicasts("federated_downlink")
        self.ready = yield from broadcast(self.world, moment, average, bits, is_multicast=multicasts)
        self.federation.distribute_to_all(moment.round + 1)

    def _learn(self, client: int, round_: int) -> LocalRound:
        """Describe what a client learns by itself."""
        scheme, federation = self.scheme, self.federation
        first = (round_ - 1) * scheme.local_steps
        count = int(self.world.decisions.knob("local_steps", client, scheme.local_steps))
        steps, guidance = range(first, first + count), federation.guidance(client)
        begin = federation.states[client]
        learned = local_round(self.training, client, begin, steps, scheme.regularizer, guidance)
        federation.states[client] = learned.after
        if federation.variates is not None:
            federation.variates.end(client, guidance, learned.after.adapter, steps)
        return learned

    def _updates(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Local steps, reports and uploads of all; returns what became of what was sent.

        Nobody waits for anybody, unless a decision waits for reports or the medium
        adds what all send at once.
        """
        world, senders = self.world, [one.client for one in learned]
        is_awaited, sums = world.decisions.is_waiting, world.sums("federated_uplink")
        ready: dict[int, Sequence[int]] = {}
        if is_awaited:
            reports: list[list[int]] = yield from self._learn_all(moment, learned)
            self._hear(moment.round, learned, is_awaited=True)
            world.apply_decision(moment.round)
            ready = dict.fromkeys(senders, tuple(span for spans in reports for span in spans))
        self._encode(moment, senders)
        if sums and not is_awaited:
            ready = dict(zip(senders, (yield from self._learn_all(moment, learned)), strict=True))
        if sums:
            sent = [(yield from self.uploads.send_at_once(moment, ready))]
        else:
            steps = [self._learn_and_upload(moment, one, ready.get(one.client)) for one in learned]
            sent = yield from world.together(steps, "local round of client")
        if world.decisions.reports and not is_awaited:
            self._hear(moment.round, learned, is_awaited=False)
        return sent

    def _learn_all(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Local steps and reports of all; returns what the upload of each waits for."""
        steps = [self._learn_locally(moment, one) for one in learned]
        return (yield from self.world.together(steps, "local round of client"))

    def _learn_and_upload(self, moment: Moment, learned: LocalRound, ready: Sequence[int] | None) -> Steps:
        """One client's local steps and reports, unless it is ready, then its upload."""
        if ready is None:
            ready = yield from self._learn_locally(moment, learned)
        return (yield from self.uploads.send(learned.client, moment, ready))

    def _learn_locally(self, moment: Moment, learned: LocalRound) -> Steps:
        """One client's local steps, then its reports; returns what its upload waits for."""
        world, flop = self.world, self.training.amounts.whole(learned.client, moment.round).flop
        ready = yield from local_update(world, learned, moment.round, flop, self.ready)
        self._delay_s[learned.client] = (world.clock.now - self._began_ns) / NS_PER_S
        bits = sum(report.bits for report in world.decisions.reports)
        if bits:
            last = learned.steps[-1].node
            sent: Sent = yield from world.send(
                "federated_uplink", learned.client, REPORT, moment, bits, last, ready
            )
            ready = [sent.span]
        return ready

    def _encode(self, moment: Moment, senders: Sequence[int]) -> None:
        """Let what was learned be encoded as it is decided now."""
        self.federation.weigh({one: self.world.decisions.knob("weight", one, 0.0) for one in senders})
        self.uploads.describe(moment.round, senders)
        if self.uploads.hang_on_values(moment.round):
            self.uploads.find_bits()

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
        decisions.heard.hear(reported, is_awaited=is_awaited)

    def _average(self, moment: Moment, sent: Sequence[Sent], before: Ref) -> tuple[Node, dict[str, Ref]]:
        """Return the average of what arrived and its figures; if nothing did, the global adapter stays."""
        world, distortion = self.world, sent[0].delivery.distortion
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

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        measure_evaluation(self.world, Moment(round_), self.federation.evaluate)
