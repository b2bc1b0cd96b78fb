"""Sequential split learning: one client after the other, and the first blocks go from hand to hand."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

from cosim.graph.node import Ref
from cosim.kernel.clock import Steps
from cosim.learning.results import evaluate, export
from cosim.learning.task import Task
from cosim.learning.train_state import TrainState
from cosim.learning.training import Training
from cosim.radio.link import Link
from cosim.schemes import (
    FEDERATED_DOWNLINK,
    FEDERATED_UPLINK,
    MAIN_DOWNLINK,
    MAIN_UPLINK,
    measure_evaluation,
)
from cosim.schemes.split_steps import SplitSteps
from cosim.schemes.splits import Splits
from cosim.world import MAIN_SERVER, Moment, World


class SequentialSplit(Splits):
    """In a round each client in turn takes its local steps with the main server, and hands its blocks on.

    The main server steps along the loss of one client at a time. The adapter of the first blocks goes up
    to the federated server when a client has ended, and down to the next one when it begins; a
    client that trains nothing, or is the only one, hands nothing on. Optimiser moments stay with each
    client. The schedule of the learning rate goes by a client's own steps, at the main server too.
    With one client this is, bit for bit, what ``centralized`` learns.

    Source
    ------
    O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", Journal of
    Network and Computer Applications, 2018, arXiv 1810.06060, algorithm 2 in its centralised mode, from our
    knowledge of the method, as the paper was not at hand. Labels go to the main server, as in our
    other schemes that cut the model.
    """

    kind: Literal["sequential_split"] = "sequential_split"
    links: ClassVar[tuple[Link, ...]] = (MAIN_UPLINK, FEDERATED_UPLINK, MAIN_DOWNLINK, FEDERATED_DOWNLINK)

    @property
    def why_times_decide(self) -> str | None:
        """Nothing happens side by side."""
        return None

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides, for one mini-batch at a time."""
        return {
            "client": task.client_memory_bytes(cut_layer, lora_rank),
            MAIN_SERVER: task.server_memory_bytes(cut_layer, lora_rank, 1),
        }

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        training = world.begin()
        passed_on = PassedOn(training)
        play = SplitSteps(world, training, passed_on, self.local_steps)
        world.hold(lambda: (*passed_on.refs(), *play.refs()))
        for round_ in range(self.num_rounds + 1):
            if round_:
                play.ready = (*play.ready, *(yield from world.start_round(round_)))
                for client in range(world.num_clients):
                    yield from self._turn(world, play, passed_on, round_, client)
            if self.is_evaluated(round_):
                adapters = passed_on.adapter, play.server.adapter
                measure_evaluation(world, Moment(round_), partial(evaluate, training, *adapters))
            world.end_round(round_)
        world.adapter = export(training, passed_on.adapter, play.server.adapter)

    def _turn(self, world: World, play: SplitSteps, passed_on: "PassedOn", round_: int, client: int) -> Steps:
        """Local steps of one client, between taking the first blocks over and handing them on."""
        moment, hands_on = Moment(round_), play.training.trains(client) and world.num_clients > 1
        amounts, node = play.training.amounts.split(client, round_), passed_on.adapter.node
        if hands_on and (client or round_ > 1):  # the very first client has them
            download = moment, amounts.adapter_download_bits, node, play.ready
            sent = yield from world.send("federated_downlink", client, "adapter_download", *download)
            play.ready = [sent.span]
        passed_on.begin(client)
        for local_step in range(1, self.local_steps + 1):
            yield from play.split_step(Moment(round_, local_step), [client])
        passed_on.end(client)
        if hands_on:
            upload = moment, amounts.adapter_bits, passed_on.adapter.node, play.ready
            sent = yield from world.send("federated_uplink", client, "adapter_upload", *upload)
            play.ready = [sent.span]


class PassedOn:
    """First blocks that are with one client at a time."""

    def __init__(self, training: Training) -> None:
        start = training.start("client")
        self.adapter = start.adapter
        self.states: list[TrainState] = [start] * training.task.num_clients

    def begin(self, client: int) -> None:
        """Let a client go on from where the one before it ended."""
        self.states[client] = self.states[client]._replace(adapter=self.adapter)

    def end(self, client: int) -> None:
        """Take over what a client has ended with."""
        self.adapter = self.states[client].adapter

    def refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield self.adapter
        for side in self.states:
            yield from (side.adapter, side.optimizer)
