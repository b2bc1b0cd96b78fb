"""The rounds of split federated training: split steps behind barriers, then adapters are averaged."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from cosim.graph.node import Ref
from cosim.kernel.clock import Steps
from cosim.learning.cuts_apart import FederationApart
from cosim.learning.federated_state import FederatedState
from cosim.learning.train_state import SplitStep
from cosim.learning.training import Training
from cosim.schemes import measure_evaluation
from cosim.schemes.split_steps import SplitSteps
from cosim.schemes.uploads import AdapterUploads
from cosim.schemes.vocabulary import Averaged, broadcast, collect
from cosim.world import Moment, World

if TYPE_CHECKING:
    from cosim.schemes.split_federated import SplitFederated


class SplitRounds(SplitSteps):
    """One training under way.

    Attributes
    ----------
    federation
        What clients and federated server hold; sides of clients that are out stay as they were.
    """

    def __init__(self, scheme: "SplitFederated", world: World, training: Training) -> None:
        self.apart = FederationApart(training) if len(set(training.cuts)) > 1 else None
        self.federation = self.apart or FederatedState(
            training, "client", scheme.weights, scheme.server_optimizer
        )
        super().__init__(
            *(world, training, self.federation, scheme.local_steps),
            is_joint=scheme.server_batch == "joint",
            deadline_s=scheme.deadline_s,
        )
        self.uploads = AdapterUploads(world, self.federation, training.cuts)
        world.hold(self._refs)

    @property
    def averages(self) -> bool:
        """Whether any client has an adapter to average."""
        return any(map(self.training.trains, range(self.world.num_clients)))

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
        flop = self.uploads.server_flop(round_)
        return (yield from collect(self.world, moment, uploads, lambda _: (average, flop), self.ready))

    def broadcast(self, moment: Moment, average: Averaged) -> Steps:
        """Let everybody, those too who are out, download the average and begin the next round from it."""
        training, round_ = self.training, moment.round
        cuts = {client: cut for client, cut in enumerate(training.cuts) if training.trains(client)}
        bits = training.amounts.download_bits(cuts, round_, self.taking_part)
        self.ready = yield from broadcast(self.world, moment, average, bits)
        self.federation.distribute_to_all(round_ + 1)
        if self.apart is not None:
            self.server = self.server._replace(adapter=self.apart.server_adapter)

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        evaluate = partial(self.federation.evaluate, self.server.adapter)
        measure_evaluation(self.world, Moment(round_), evaluate)

    def _measure_loss(self, moment: Moment, one_step: SplitStep) -> None:
        super()._measure_loss(moment, one_step)
        if moment.local_step == 1 and self.federation.aggregator.wants_losses:
            self.federation.losses[one_step.client] = one_step.loss

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()
        yield from self.refs()
