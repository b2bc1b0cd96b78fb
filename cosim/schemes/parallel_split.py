"""Parallel split learning: one shared server model, and client blocks that nobody averages."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

from cosim.control.knobs import Setting
from cosim.control.reports import Report
from cosim.control.stages import Round
from cosim.graph.node import Ref
from cosim.kernel.clock import Steps
from cosim.learning.amounts import split_amounts
from cosim.learning.payload import bits_are_known
from cosim.learning.results import evaluate_each, export
from cosim.learning.task import Task
from cosim.learning.train_state import TrainState
from cosim.learning.training import Training
from cosim.parts import OfPlane
from cosim.radio.link import Link
from cosim.schemes import MAIN_DOWNLINK, MAIN_UPLINK, measure_evaluation
from cosim.schemes.split_steps import SplitSteps
from cosim.schemes.splits import Splits
from cosim.schemes.stages import split_round
from cosim.world import MAIN_SERVER, Moment, World


class ParallelSplit(Splits):
    """Clients take split steps side by side, and each keeps its own first blocks for good.

    The split steps are those of ``split_federated``: the one main server steps along the weighted
    sum of all losses, and each client along the gradient of its own. Nothing is averaged and no
    adapter travels, so every client has a model of its own. What is evaluated is the mean of
    their losses and hits, weighted by data, and what is saved in the end is the mean of their blocks,
    which no device holds. With one client this is, bit for bit, what ``centralized`` learns.

    Attributes
    ----------
    server_batch
        As of ``split_federated``.

    Source
    ------
    J. Jeon, J. Kim, "Privacy-sensitive parallel split learning", ICOIN 2020, as others describe it (one
    server model, no aggregation of client models: M. Kohankhaki et al., "Parallel split learning with
    global sampling", arXiv 2407.15738, introduction); the paper itself was not at hand. Mini-batches of
    clients are equally large here, and their losses weigh by data.
    """

    kind: Literal["parallel_split"] = "parallel_split"
    links: ClassVar[tuple[Link, ...]] = (MAIN_UPLINK, MAIN_DOWNLINK)
    server_batch: Annotated[Literal["joint", "per_client"], OfPlane("time")] = "joint"

    @property
    def is_closed_form(self) -> bool:
        """Rounds are alike, and wait for everybody."""
        return True

    @property
    def why_times_decide(self) -> str | None:
        """Barriers alone do."""
        return None

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the barriers of a round, without the averaging."""
        (cut,) = set(setting.cuts(task.num_clients))
        one = split_amounts(task, cut, setting.lora_rank)._replace(adapter_bits=0)
        is_joint, is_bound = self.server_batch == "joint", not bits_are_known(task, cut)
        return split_round([one] * task.num_clients, self.local_steps, is_joint=is_joint, is_bound=is_bound)

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides; a joint batch is held whole by the main server."""
        batches = task.num_clients if self.server_batch == "joint" else 1
        return {
            "client": task.client_memory_bytes(cut_layer, lora_rank),
            MAIN_SERVER: task.server_memory_bytes(cut_layer, lora_rank, batches),
        }

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        training = world.begin()
        own = OwnSides(training)
        play = SplitSteps(world, training, own, self.local_steps, is_joint=self.server_batch == "joint")
        world.hold(lambda: (*own.refs(), *play.refs()))
        everybody = range(world.num_clients)
        for round_ in range(self.num_rounds + 1):
            if round_:
                play.ready = (*play.ready, *(yield from world.start_round(round_)))
                for local_step in range(1, self.local_steps + 1):
                    yield from play.split_step(Moment(round_, local_step), everybody)
            if self.is_evaluated(round_):
                evaluate = partial(evaluate_each, training, own.adapters, play.server.adapter)
                measure_evaluation(world, Moment(round_), evaluate)
            world.end_round(round_)
        mean = training.mean(dict(enumerate(own.adapters)))
        world.adapter = export(training, mean.ref("adapter"), play.server.adapter)


class OwnSides:
    """The sides of clients that keep what they train."""

    def __init__(self, training: Training) -> None:
        self.states: list[TrainState] = [training.start("client")] * training.task.num_clients

    @property
    def adapters(self) -> list[Ref]:
        """The adapter of each client."""
        return [side.adapter for side in self.states]

    def refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        for side in self.states:
            yield from (side.adapter, side.optimizer)
