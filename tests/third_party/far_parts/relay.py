"""Scheme: one adapter that goes around."""

from functools import partial
from typing import ClassVar, Literal

from cosim.kernel.clock import Steps
from cosim.learning.results import evaluate, export
from cosim.learning.shape import ModelShape
from cosim.learning.task import Task
from cosim.learning.whole_nodes import local_round
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK, Scheme, measure_evaluation
from cosim.world import Moment, World


class Relay(Scheme):
    """One adapter goes from client to client by way of the server; each trains it in turn.

    A round is one turn of every client. Nothing is averaged.

    Source
    ------
    K. Chang et al., "Distributed deep learning networks among institutions for medical
    imaging", JAMIA 25(8), 2018 (cyclical weight transfer).
    """

    kind: Literal["far_relay"] = "far_relay"
    links: ClassVar[tuple[Link, ...]] = (FEDERATED_UPLINK, FEDERATED_DOWNLINK)

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the number of blocks: all of them stay on the client."""
        return (shape.num_layers,)

    def num_client_steps(self, num_clients: int) -> int:
        """Return the steps of all clients, which one adapter takes."""
        return self.num_rounds * self.local_steps

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the whole model's need on every client."""
        return {"client": task.whole_memory_bytes(lora_rank)}

    def run(self, world: World) -> Steps:
        """Play all rounds, one client after the other."""
        training = world.begin()
        side = training.start("whole")
        own = [side.optimizer] * world.num_clients
        world.hold(lambda: (side.adapter, *own))
        measure_evaluation(world, Moment(0), partial(evaluate, training, side.adapter))
        world.end_round(0)
        ready: list[int] = []
        for round_ in range(1, self.num_rounds + 1):
            ready += yield from world.start_round(round_)
            steps = range((round_ - 1) * self.local_steps, round_ * self.local_steps)
            for client, name in enumerate(world.client_names):
                amounts, moment = training.amounts.whole(client, round_), Moment(round_)
                down = yield from world.send(
                    "federated_downlink",
                    client,
                    "adapter_download",
                    moment,
                    amounts.adapter_download_bits,
                    side.adapter.node,
                    ready,
                )
                ready = [down.span]
                learned = local_round(training, client, side._replace(optimizer=own[client]), steps)
                side = learned.after
                own[client] = side.optimizer
                for number, step in enumerate(learned.steps, start=1):
                    at = Moment(round_, number)
                    span = yield from world.compute(name, "local_step", at, amounts.flop, step.node, ready)
                    world.measure(at, name, "train_loss", step.loss)
                    ready = [span]
                up = yield from world.send(
                    "federated_uplink",
                    client,
                    "adapter_upload",
                    moment,
                    amounts.adapter_bits,
                    side.adapter.node,
                    ready,
                )
                ready = [up.span]
            if self.is_evaluated(round_):
                measure_evaluation(world, Moment(round_), partial(evaluate, training, side.adapter))
            world.end_round(round_)
        world.adapter = export(training, side.adapter)
