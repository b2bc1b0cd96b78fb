"""Federated LoRA: every client holds the whole model, and only adapters travel."""

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.allocation.state import Amounts
from cosim.kernel.clock import Steps
from cosim.learning.lesson import Lesson
from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.shape import ModelShape
from cosim.learning.training import LocalRound, Side, Training, whole_amounts
from cosim.parts import OneOf
from cosim.rng import stream
from cosim.schemes import Scheme, measure_evaluation
from cosim.world import FEDERATED_SERVER, Moment, World


class Federated(Scheme):
    """Local steps on the whole model, upload of the adapters, their average, and its download.

    In a round each client that takes part starts from the global adapter, takes
    ``local_steps`` steps on its own mini-batches and uploads at once, waiting for
    nobody; when all uploads are there the federated server averages them,
    weighted by data, and everybody downloads the average. Averaging and the
    optimiser's own arithmetic are charged nothing.

    With one client this is, bit for bit, what ``centralized`` learns.

    Attributes
    ----------
    participation
        Share of the clients drawn for a round, rounded up; each set is as likely as any other.
    regularizer
        What is added to the loss of every mini-batch; recorded losses are without it.

    Source
    ------
    H. B. McMahan et al., "Communication-efficient learning of deep networks from
    decentralized data", AISTATS 2017 (FedAvg), with LoRA factors as the weights;
    the wireless round is that of arXiv 2505.00333. Optimiser moments stay with
    the client over an averaging (our choice, the papers are silent).
    """

    kind: Literal["federated"] = "federated"
    links: ClassVar[frozenset[str]] = frozenset({"federated_uplink", "federated_downlink"})
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    regularizer: Annotated[Regularizer, OneOf(Regularizer)] = Unregularized()
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"participation": 0.6},
        {"regularizer": {"kind": "orthogonality"}},
    )

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the number of blocks: all of them stay on the client."""
        return (shape.num_layers,)

    def amounts(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> Amounts:
        """Return what each client computes per mini-batch and sends per round; no server computes."""
        one = whole_amounts(lesson, lora_rank)
        return Amounts(one.forward_flop, one.backward_flop, 0, 0, 0, one.adapter_bits)

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
        play.settle(0)
        for round_ in range(1, self.num_rounds + 1):
            learned = play.learn(round_)
            world.start_round(round_)
            yield from play.round(Moment(round_), learned)
            if self.is_evaluated(round_):
                play.evaluate(round_)
            play.settle(round_)
        world.adapter = play.training.export(play.adapter)


class _Play:
    """One training under way.

    Attributes
    ----------
    adapter
        The global adapter all start the round from.
    optimizers
        Each client's memory of its optimiser.
    ready
        Spans the next piece of work of everybody waits for.
    """

    def __init__(self, scheme: Federated, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        start = training.start("whole")
        self.adapter = start.adapter
        self.optimizers = [start.optimizer] * world.num_clients
        self.ready: Sequence[int] = ()

    def learn(self, round_: int) -> list[LocalRound]:
        """Describe what those who take part learn by themselves."""
        seed, local_steps = self.world.lesson.seed, self.scheme.local_steps
        steps = range((round_ - 1) * local_steps, round_ * local_steps)
        return [
            self.training.local_round(
                client, Side(self.adapter, self.optimizers[client]), steps, self.scheme.regularizer
            )
            for client in self.scheme.taking_part(seed, self.world.num_clients, round_)
        ]

    def round(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Local steps and upload of those who take part, the average, and its download by everybody."""
        world = self.world
        average = self.training.aggregate({one.client: one.after for one in learned})
        steps = [self._learn_and_upload(moment, one) for one in learned]
        arrived = yield from world.together(steps, "local round of client")
        averaged = yield from world.compute(FEDERATED_SERVER, "aggregate", moment, 0, average.work, arrived)
        bits = self.training.whole.adapter_bits
        downloads = [
            world.send(
                "federated_downlink", client, "adapter_download", moment, bits, average.work, [averaged]
            )
            for client in range(world.num_clients)
        ]
        self.ready = yield from world.together(downloads, "adapter download of client")
        self.adapter = average
        for one in learned:
            self.optimizers[one.client] = one.after.optimizer

    def _learn_and_upload(self, moment: Moment, learned: LocalRound) -> Steps:
        """One client's local steps, one span each, then its upload; returns that span."""
        world, amounts = self.world, self.training.whole
        name, ready = world.client_names[learned.client], self.ready
        for number, step in enumerate(learned.steps, start=1):
            at = Moment(moment.round, number)
            span = yield from world.compute(
                name, "client_forward_backward", at, amounts.flop, step.work, ready
            )
            world.measure(at, name, "train_loss", step.loss)
            ready = [span]
        return (
            yield from world.send(
                "federated_uplink",
                learned.client,
                "adapter_upload",
                moment,
                amounts.adapter_bits,
                learned.after.adapter.work,
                ready,
            )
        )

    def evaluate(self, round_: int) -> None:
        """Record how good the global model is."""
        measure_evaluation(self.world, Moment(round_), self.training.evaluate(self.adapter))

    def settle(self, round_: int) -> None:
        """Hand over to the next round: the global adapter and every optimiser's memory."""
        self.adapter, *self.optimizers = self.world.settle(round_, [self.adapter, *self.optimizers])
