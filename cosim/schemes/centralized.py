"""Centralised LoRA: the learning reference, with all data on the main server."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from cosim.control.knobs import Setting
from cosim.control.reports import Report
from cosim.control.stages import Barrier, Compute, Repeat, Round
from cosim.kernel.clock import Steps
from cosim.learning.amounts import whole_amounts
from cosim.learning.results import evaluate, export
from cosim.learning.task import Task
from cosim.learning.whole_nodes import whole_step
from cosim.schemes import Scheme, measure_evaluation
from cosim.world import MAIN_SERVER, Moment, World


class Centralized(Scheme):
    """The whole model trained on the main server, on the very mini-batches the clients would draw.

    A step is one optimiser step on the weighted sum of the losses of all
    clients' mini-batches; nothing travels. With one client this is, bit for
    bit, what ``split_federated`` learns; not so with ``max_grad_norm``, whose norm
    is taken over all that one optimiser holds.
    """

    kind: Literal["centralized"] = "centralized"

    @property
    def why_times_decide(self) -> str | None:
        """Nothing happens side by side."""
        return None

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the whole model's need on the main server, for one client's mini-batch at a time."""
        return {MAIN_SERVER: task.whole_memory_bytes(lora_rank)}

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the steps of the main server."""
        flop = whole_amounts(task, setting.lora_rank).flop * task.num_clients
        step = Barrier(((),) * task.num_clients, (Compute("whole_step", MAIN_SERVER, flop),))
        return (Repeat((step,), self.local_steps),)

    def taking_part(self, seed: int, num_clients: int, round_: int) -> list[int]:
        """Return nobody: the main server has all data."""
        return []

    def run(self, world: World) -> Steps:
        """Play all rounds; a round is only the space between two evaluations."""
        training = world.begin()
        whole = training.start("whole")
        measure_evaluation(world, Moment(0), partial(evaluate, training, whole.adapter))
        world.hold(lambda: (whole.adapter, whole.optimizer))
        world.end_round(0)
        ready: list[int] = []
        for round_ in range(1, self.num_rounds + 1):
            world.begin_round(round_, ())
            for local_step in range(1, self.local_steps + 1):
                moment = Moment(round_, local_step)
                step = (round_ - 1) * self.local_steps + local_step - 1
                whole, losses = whole_step(training, whole, step)
                flop = training.amounts.most_whole.flop * world.num_clients
                span = yield from world.compute(
                    MAIN_SERVER, "whole_step", moment, flop, whole.adapter.node, ready
                )
                ready = [span]
                for client, loss in enumerate(losses):
                    world.measure(moment, world.client_names[client], "train_loss", loss)
            if self.is_evaluated(round_):
                measure_evaluation(world, Moment(round_), partial(evaluate, training, whole.adapter))
            world.end_round(round_)
        world.adapter = export(training, whole.adapter)
