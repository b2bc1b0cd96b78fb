"""The rounds of federated training: local updates are collected, averaged and broadcast."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.control.knobs import ASSIGNMENT_BITS, DELIVERY_RATE, WEIGHT
from cosim.control.reports import ASSIGNMENT, LOSS_REPORT_BITS, REPORT
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.amounts import hand_over_amounts
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.federated_state import FederatedState
from cosim.learning.train_state import LocalRound, TrainState
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.radio.medium.delivery import SCALAR_BITS
from cosim.schemes import measure_evaluation
from cosim.schemes.block_scoring import score_blocks
from cosim.schemes.turns import Cost, Turns
from cosim.schemes.uploads import AdapterUploads
from cosim.schemes.vocabulary import Averaged, broadcast, catch_up, collect, local_update
from cosim.transmissions import Sent
from cosim.units import NS_PER_S
from cosim.world import FEDERATED_SERVER, Moment, World

if TYPE_CHECKING:
    from cosim.schemes.federated import Federated

SIGNALLING = "signalling"
"""Name of the spans in which a server tells senders of a sum what they need to know."""


class FederatedRounds(Turns):
    """One training under way; a turn is a round of all clients.

    Attributes
    ----------
    federation
        What clients and federated server hold.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: "Federated", world: World, training: Training) -> None:
        super().__init__(world, training)
        self.scheme, self._played, self._evaluated = scheme, 0, 0
        self.ready: Sequence[int] = ()
        self._num_blocks = world.task.shape.num_layers
        self._began_ns = 0
        self._delay_s: dict[int, float] = {}
        self._before: dict[int, TrainState] = {}
        self._begin(training)
        self._ledger, self._stopped = scheme.ledger(world.task), set[int]()
        world.hold(self._refs)

    def _begin(self, training: Training, start: TrainState | None = None, first_round: int = 1) -> None:
        """Let a training begin: the run's, or that of a stage, which has a start of its own."""
        scheme, self.training = self.scheme, training
        self.federation = FederatedState(
            training, "whole", scheme.weights, scheme.server_optimizer, start, first_round
        )
        self.uploads = AdapterUploads(
            self.world, self.federation, [self._num_blocks] * self.world.num_clients
        )

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()

    @property
    def is_open(self) -> bool:
        """Whether there are rounds left to begin."""
        return self.num_begun < self.scheme.num_rounds

    def turn(self, client: int = 0, ready: Sequence[int] = ()) -> Steps:
        """One round of those who are drawn and chosen; everybody waits for ``ready``, if given."""
        self.num_begun = round_ = self.num_begun + 1
        self.ready = ready or self.ready
        yield from self.world.wait_for_power()
        drawn = self.able(
            self.scheme.taking_part(self.world.task.seed, self.world.num_clients, round_), round_
        )
        drawn = yield from self.world.attendance.present(drawn)
        if not drawn:
            return self.ready
        self._played = round_
        self.ready = (*self.ready, *(yield from self.world.start_round(round_, drawn)))
        if self.world.task.begins_stage(round_):
            yield from self._begin_stage(Moment(round_))
        if round_ == self.scheme.scored_round and self.scheme.scored_examples:
            self.ready = yield from score_blocks(self, Moment(round_))
        chosen = list(filter(self.world.decisions.takes_part, drawn))
        average = yield from self.collect(Moment(round_), chosen)
        yield from self.broadcast(Moment(round_), average)
        if self.scheme.is_evaluated(round_):
            self.evaluate()
        self.world.end_round(round_)
        return self.ready

    def end(self) -> None:
        """Leave the adapter; a run that ends early is evaluated where it ends."""
        if self._evaluated < self._played:
            self.evaluate()
            self.world.report(self._played)
        self.world.adapter = self.federation.export()

    def cost(self, client: int) -> Cost:
        """Return how long a round of all is expected to last, and what it takes of all clients."""
        steps = self.scheme.local_steps
        each = [self.cost_of_update(one, steps) for one in range(self.world.num_clients)]
        return Cost(max(one.latency_s for one in each), sum(one.energy_j for one in each))

    def new_data(self, client: int, time_s: float) -> float:
        """Return the mean over the clients."""
        return fmean(self.training.new_data(one, time_s) for one in range(self.world.num_clients))

    def able(self, clients: Sequence[int], round_: int) -> list[int]:
        """Return those of some clients that are on and can afford to take part in a round."""
        clients = list(filter(self.world.let_in, clients))
        if self._ledger is None:
            return clients
        first = (round_ - 1) * self.scheme.local_steps
        steps = range(first, first + self.scheme.local_steps)
        able = [client for client in clients if self._ledger.affords(client, steps)]
        for client in sorted(set(clients) - set(able) - self._stopped):
            self.world.note(Moment(round_), "budget_spent", 1.0, self.world.client_names[client])
        self._stopped |= set(clients) - set(able)
        return able

    def _tell_epsilons(self, moment: Moment, learned: Sequence[LocalRound]) -> None:
        """Record what these clients have given away so far."""
        if self._ledger is None:
            return
        first = (moment.round - 1) * self.scheme.local_steps
        for one in learned:
            epsilon = self._ledger.release(one.client, range(first, first + len(one.steps)))
            self.world.note(moment, "epsilon", epsilon, self.world.client_names[one.client])

    def collect(self, moment: Moment, senders: Sequence[int]) -> Steps:
        """Let each of these clients update the model on its data and upload; returns their average."""
        self._began_ns = self.world.clock.now
        self._before = {client: self.federation.states[client] for client in senders}
        learned = [self._learn(client, moment.round) for client in senders]
        before, figures = self.federation.adapter, dict[str, Ref]()

        def average(sent: Sequence[Sent]) -> tuple[Node, int]:
            node, found = self._average(moment, sent, before)
            figures.update(found)
            return node, self.uploads.server_flop(moment.round)

        averaged = yield from collect(self.world, moment, self._updates(moment, learned), average, self.ready)
        self._tell_epsilons(moment, learned)
        for name, figure in figures.items():
            self.world.measure(moment, FEDERATED_SERVER, name, figure)
        return averaged

    def _begin_stage(self, moment: Moment) -> Steps:
        """Let everybody know what this round's stage trains, and start from."""
        task, number = self.world.task, self.world.task.stage(moment.round)
        bits = task.by_stage[number].trainable.seed_bits
        if bits:
            self.ready = yield from broadcast(
                self.world,
                moment,
                Averaged(self.federation.adapter.node, self.ready),
                dict.fromkeys(range(self.world.num_clients), bits),
                is_multicast=self.scheme.multicasts("federated_downlink"),
                name="seed_download",
            )
        if number:
            yield from self._hand_over(moment, number)

    def _hand_over(self, moment: Moment, number: int) -> Steps:
        """Let the server work out what a stage starts from, and everybody download it."""
        world, federation, stage = self.world, self.federation, self.world.task.stages[number - 1]
        training = self.training.whole_run.of_stage(number)
        node = training.hand_over(self.training, stage, "whole", federation.adapter, federation.residual)
        flop, bits = hand_over_amounts(world.task, number, training.lora_rank)
        span = yield from world.compute(FEDERATED_SERVER, "hand_over", moment, flop, node, self.ready)
        residual = node.ref("residual") if stage.handover.keeps_residual else None
        begun = TrainState(node.ref("adapter"), node.ref("optimizer"), residual)
        self._begin(training, begun, moment.round)
        each = dict.fromkeys(range(world.num_clients), bits)
        multicasts = self.scheme.multicasts("federated_downlink")
        self.ready = yield from broadcast(
            world, moment, Averaged(node, [span]), each, is_multicast=multicasts
        )
        world.measure(moment, FEDERATED_SERVER, "handover_kept_energy", node.ref("kept_energy"))
        world.measure(moment, FEDERATED_SERVER, "handover_eval_loss", self.federation.evaluate().ref("loss"))

    def broadcast(self, moment: Moment, average: Averaged) -> Steps:
        """Let everybody, senders or not, download the average and begin the next round from it."""
        training, senders = self.training, list(self.uploads.sent)
        each = dict.fromkeys(range(self.world.num_clients), self._num_blocks)
        bits = training.amounts.download_bits(each, moment.round, senders)
        self.ready = yield from broadcast(
            self.world,
            moment,
            average,
            bits,
            is_multicast=self.scheme.multicasts("federated_downlink"),
            rebuild_flop=self.uploads.rebuild_flop(moment.round) if senders else 0,
        )
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
        if federation.aggregator.wants_losses:
            federation.losses[client] = learned.steps[0].loss
        optimizer, num_steps = self.training.task.training.optimizer, self.training.task.num_steps
        federation.learning_rates[client] = sum(optimizer.rate(step, num_steps) for step in steps)
        if federation.variates is not None:
            federation.variates.end(client, guidance, learned.after.adapter, steps)
        return learned

    def _updates(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Local steps, reports and uploads of all; returns what became of what was sent.

        Nobody waits for anybody, unless a decision waits for reports or the medium
        adds what all send at once.
        """
        world, senders, before = self.world, [one.client for one in learned], self._before
        is_awaited, sums = world.decisions.is_waiting, world.sums("federated_uplink")
        needs_losses = self.scheme.weights.needs_losses
        ready: dict[int, Sequence[int]] = {}
        if is_awaited or needs_losses:
            reports: list[list[int]] = yield from self._learn_all(moment, learned)
            ready = dict.fromkeys(senders, tuple(span for spans in reports for span in spans))
        if is_awaited:
            self._hear(moment.round, learned, is_awaited=True)
            known = yield from world.decide_again(moment.round)
            ready = {client: (*spans, *known) for client, spans in ready.items()}
        if needs_losses and world.computes:
            self.federation.weights.hear(self._losses(learned))
            for client, weight in zip(senders, self.federation.weights.of(senders), strict=True):
                world.note(moment, WEIGHT.name, weight, world.client_names[client])
        self._encode(moment, senders)
        if sums and not ready:
            ready = dict(zip(senders, (yield from self._learn_all(moment, learned)), strict=True))
        if sums:
            ready = yield from self._signal(moment, learned, ready)
            sent = [(yield from self.uploads.send_at_once(moment, ready))]
        else:
            steps = [self._learn_and_upload(moment, one, ready.get(one.client)) for one in learned]
            sent = yield from world.together(steps, "local round of client")
        if world.decisions.reports and not is_awaited:
            self._hear(moment.round, learned, is_awaited=False)
        for client in world.attendance.dropped:
            if client in before:
                self.federation.states[client] = before[client]
                self.uploads.forget(client)
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
        link, first = "federated_downlink", learned.steps[0].node
        ready: Sequence[int] = yield from catch_up(world, learned.client, moment, self.ready)
        assigned = int(world.decisions.knob(ASSIGNMENT_BITS.name, learned.client, 0.0))
        if assigned:
            told: Sent = yield from world.send(
                link, learned.client, ASSIGNMENT, moment, assigned, first, ready
            )
            ready = [told.span]
        ready = yield from local_update(world, learned, moment.round, flop, ready)
        self._delay_s[learned.client] = (world.clock.now - self._began_ns) / NS_PER_S
        bits = sum(report.bits for report in world.decisions.reports)
        bits += LOSS_REPORT_BITS * self.scheme.weights.needs_losses
        bits += world.signalling("federated_uplink").up_bits
        if bits:
            last = learned.steps[-1].node
            sent: Sent = yield from world.send(
                "federated_uplink", learned.client, REPORT, moment, bits, last, ready
            )
            ready = [sent.span]
        return ready

    def _signal(
        self, moment: Moment, learned: Sequence[LocalRound], ready: dict[int, Sequence[int]]
    ) -> Steps:
        """Let every sender of a sum know its weight, where it is new, and what all share; returns what waits.

        The server answers when it has heard from all.
        """
        world, heard = self.world, tuple(dict.fromkeys(span for spans in ready.values() for span in spans))
        bits = world.signalling("federated_uplink").down_bits
        bits += SCALAR_BITS * self.scheme.weights.needs_losses
        if not bits:
            return ready
        answers = [
            world.send("federated_downlink", one.client, SIGNALLING, moment, bits, one.steps[-1].node, heard)
            for one in learned
        ]
        sent = yield from world.together(answers, "signalling to client")
        return {one.client: (answer.span,) for one, answer in zip(learned, sent, strict=True)}

    def _losses(self, learned: Sequence[LocalRound]) -> dict[int, float]:
        """Return the mean loss of each client's local steps."""
        losses = iter(self.world.ask([step.loss for one in learned for step in one.steps]))
        return {one.client: fmean(next(losses) for _ in one.steps) for one in learned}

    def _encode(self, moment: Moment, senders: Sequence[int]) -> None:
        """Let what was learned be encoded as it is decided now."""
        knob = self.world.decisions.knob
        self.federation.weights.decide(
            {one: knob(WEIGHT.name, one, 0.0) for one in senders},
            {one: knob(DELIVERY_RATE.name, one, 0.0) for one in senders},
        )
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
            reported["loss"] = self._losses(learned)
        if "energies" in wanted and self.world.computes and isinstance(self.scheme.adapter_codec, PairCodec):
            values = self.world.ask(self.uploads.energies(round_, senders))
            found = (np.asarray(value["energies"]) for value in values)
            reported["energies"] = dict(zip(senders, found, strict=True))
        decisions.heard.hear(reported, is_awaited=is_awaited)

    def _average(self, moment: Moment, sent: Sequence[Sent], before: Ref) -> tuple[Node, dict[str, Ref]]:
        """Return the average of what arrived and its figures; if nothing did, the global adapter stays."""
        world, distortion = self.world, sent[0].delivery.distortion if sent else None
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
        figures = self.federation.pair_figures(self.uploads.received, before, moment.round)
        return average, self.uploads.mean_figures | figures

    def evaluate(self) -> None:
        """Record how good the model is."""
        self._evaluated = self._played
        measure_evaluation(self.world, Moment(self._played), self.federation.evaluate)
