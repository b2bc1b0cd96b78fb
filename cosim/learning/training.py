"""The works of a training, described with their amounts; nothing is computed here and no clock is known."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata

from cosim.learning.data.draws import BatchDraws
from cosim.learning.flop import activation_numbers, adapter_numbers, split_flop, whole_flop
from cosim.learning.lesson import Lesson
from cosim.learning.regularizer import Regularizer
from cosim.learning.work import Describer, Output, Told, Work
from cosim.parts import Part
from cosim.rng import stream


@dataclass(frozen=True)
class Side:
    """What is trained on one side at one moment: adapter and the optimiser's memory."""

    adapter: Output
    optimizer: Output


@dataclass(frozen=True)
class Exchange:
    """One mini-batch of one client, there and back.

    Attributes
    ----------
    mine
        The client's side before the step.
    forward, server, backward
        The three works: activations; loss, their gradient and the server's own
        gradient; the client's step, None where the client trains nothing.
    after
        The client's side after the step.
    """

    client: int
    mine: Side
    forward: Work
    server: Work
    backward: Work | None

    @property
    def loss(self) -> Output:
        """Mean loss over the targets of the mini-batch, nats."""
        return self.server.out("loss")

    @property
    def after(self) -> Side:
        """The client's side after its step."""
        if self.backward is None:
            return self.mine
        return Side(self.backward.out("adapter"), self.backward.out("optimizer"))


@dataclass(frozen=True)
class LocalStep:
    """One mini-batch of one client through the whole model, and the step it leads to."""

    work: Work
    loss: Output


@dataclass(frozen=True)
class LocalRound:
    """What one client learns in a round without hearing of anybody.

    Attributes
    ----------
    steps
        Its mini-batches, in their order.
    after
        Its side after them.
    """

    client: int
    steps: tuple[LocalStep, ...]
    after: Side


@dataclass(frozen=True)
class SplitAmounts:
    """What split training at one cut layer and rank computes and sends, per client."""

    client_forward_flop: int
    client_backward_flop: int
    server_flop: int
    activation_bits: int
    gradient_bits: int
    adapter_bits: int


def split_amounts(lesson: Lesson, cut_layer: int, lora_rank: int) -> SplitAmounts:
    """Return the amounts of one client: FLOP and bits per mini-batch, adapter bits per round.

    A number travels in the precision it is computed in. The activations'
    gradients are as large as the activations, and none where the client has no
    adapter to train. Labels, the averaging of adapters
    and the optimiser's own arithmetic are neglected, as in FedsLLM.
    """
    shape, targets = lesson.shape, lesson.lora.targets(lesson.shape)
    batch_size, length = lesson.training.batch_size, lesson.data.sequence_length
    blocks = lesson.adapted_blocks
    flop = split_flop(shape, targets, lora_rank, cut_layer, batch_size, length, blocks)
    bits = lesson.model.bits_per_number
    activation_bits = bits * activation_numbers(shape, batch_size, length)
    return SplitAmounts(
        client_forward_flop=flop.client_forward,
        client_backward_flop=flop.client_backward,
        server_flop=flop.server_forward + flop.server_backward,
        activation_bits=activation_bits,
        gradient_bits=activation_bits if lesson.client_trains(cut_layer) else 0,
        adapter_bits=bits * adapter_numbers(shape, targets, lora_rank, 1, cut_layer, blocks),
    )


@dataclass(frozen=True)
class WholeAmounts:
    """What training of the uncut model computes per mini-batch and sends per round."""

    forward_flop: int
    backward_flop: int
    adapter_bits: int

    @property
    def flop(self) -> int:
        """FLOP of one mini-batch, there and back."""
        return self.forward_flop + self.backward_flop


def whole_amounts(lesson: Lesson, lora_rank: int) -> WholeAmounts:
    """Return the amounts of one client: FLOP per mini-batch, adapter bits per round.

    The adapter is that of all blocks, and a classifier's head with it.
    """
    shape, targets = lesson.shape, lesson.lora.targets(lesson.shape)
    batch_size, length, blocks = (
        lesson.training.batch_size,
        lesson.data.sequence_length,
        lesson.adapted_blocks,
    )
    flop = whole_flop(shape, targets, lora_rank, batch_size, length, blocks)
    numbers = adapter_numbers(shape, targets, lora_rank, 1, shape.num_layers, blocks)
    numbers += shape.trained_head_weights
    return WholeAmounts(flop.forward, flop.backward, lesson.model.bits_per_number * numbers)


class Training:
    """Describes the works of one training.

    Parameters
    ----------
    lesson
        What is learned.
    cut_layer, lora_rank
        As decided; the lesson's own rank is not used.
    """

    def __init__(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> None:
        self.lesson = lesson
        self.cut_layer = cut_layer
        self.lora_rank = lora_rank
        self._works = Describer()
        self._optimizer = Told(**lesson.training.optimizer.model_dump(mode="json"))
        self._draws = [
            BatchDraws(len(share), lesson.training.batch_size, stream(lesson.seed, "batches", client))
            for client, share in enumerate(lesson.shares)
        ]

    @cached_property
    def amounts(self) -> SplitAmounts:
        """What each client computes and sends."""
        return split_amounts(self.lesson, self.cut_layer, self.lora_rank)

    @cached_property
    def client_trains(self) -> bool:
        """Whether clients have an adapter: if not, no gradient is for them and nothing is averaged."""
        return self.lesson.client_trains(self.cut_layer)

    @cached_property
    def _base(self) -> Told:
        """What decides numbers that no adapter does."""
        lesson = self.lesson
        return Told(
            base=lesson.model.base.content_key(),
            dtype=lesson.model.dtype,
            device=lesson.model.torch_device,
            torch=_version("torch"),
            transformers=_version("transformers"),
            **lesson.executor_settings,
        )

    @cached_property
    def whole(self) -> WholeAmounts:
        """What a client computes and sends that holds the uncut model."""
        return whole_amounts(self.lesson, self.lora_rank)

    def start(self, part: str) -> Side:
        """Return the initial adapter and optimiser of ``part``: client, server or whole."""
        lesson = self.lesson
        work = self._works.describe(
            "start",
            (),
            part=part,
            base=lesson.model.base.content_key(),
            task=lesson.shape.task,
            num_labels=lesson.shape.num_labels,
            dtype=lesson.model.dtype,
            device=lesson.model.torch_device,
            lora=lesson.lora.deciding(self.lora_rank),
            cut_layer=None if part == "whole" else self.cut_layer,
            optimizer=self._optimizer,
            seed=stream(lesson.seed, "adapter").torch_seed(),
            torch=_version("torch"),
            transformers=_version("transformers"),
            peft=_version("peft"),
            **lesson.executor_settings,
        )
        return Side(work.out("adapter"), work.out("optimizer"))

    def exchange(self, client: int, mine: Side, server: Side, step: int) -> Exchange:
        """Return the works of one mini-batch; ``step`` counts from 0 over the whole run."""
        batch = self._batch(client, step)
        dropout = self._dropout(client, step)
        if self.client_trains:
            forward = self._works.describe(
                "client_forward", (mine.adapter,), batch=batch, cut_layer=self.cut_layer, dropout=dropout
            )
        else:  # the base alone decides, and the same mini-batch gives the same
            forward = self._works.describe(
                "client_forward", (), batch=batch, cut_layer=self.cut_layer, dropout=None, base=self._base
            )
        at_server = self._works.describe(
            "server_exchange",
            (server.adapter, forward.out("activations")),
            batch=batch,
            cut_layer=self.cut_layer,
            dropout=dropout,
        )
        if not self.client_trains:
            return Exchange(client, mine, forward, at_server, None)
        backward = self._works.describe(
            "client_backward",
            (
                mine.adapter,
                mine.optimizer,
                forward.out("activations"),
                forward.out("leaves"),
                at_server.out("gradient"),
            ),
            **self._optimizer_step(step),
        )
        return Exchange(client, mine, forward, at_server, backward)

    def server_update(self, server: Side, exchanges: Sequence[Exchange], step: int) -> Side:
        """Return the server's side after one step on the weighted sum of the clients' losses."""
        gradients = [one.server.out("adapter_gradient") for one in exchanges]
        return self._update(server, gradients, [one.client for one in exchanges], step)

    def aggregate(self, sides: Mapping[int, Side]) -> Output:
        """Return the mean of these clients' adapters, weighted by data, factor by factor (FedAvg)."""
        adapters = [side.adapter for side in sides.values()]
        return self._works.describe("aggregate", adapters, weights=self._weights(sides)).out("adapter")

    def local_round(
        self, client: int, whole: Side, steps: Sequence[int], regularizer: Regularizer | None = None
    ) -> LocalRound:
        """Return the works of one client's mini-batches; ``steps`` count from 0 over the whole run."""
        done = []
        for step in steps:
            one = self._whole_gradient(client, whole.adapter, step)
            whole = self._update(whole, [one.out("adapter_gradient")], [client], step, regularizer)
            done.append(LocalStep(whole.adapter.work, one.out("loss")))
        return LocalRound(client, tuple(done), whole)

    def whole_step(self, whole: Side, step: int) -> tuple[Side, list[Output]]:
        """Return the uncut model's side after a step on the clients' mini-batches, and their losses."""
        clients = range(self.lesson.num_clients)
        gradients = [self._whole_gradient(client, whole.adapter, step) for client in clients]
        side = self._update(whole, [one.out("adapter_gradient") for one in gradients], clients, step)
        return side, [one.out("loss") for one in gradients]

    def evaluate(self, *adapters: Output) -> Work:
        """Return the evaluation on held-out examples; ``adapters`` are both sides' or the whole's."""
        return self._works.describe(
            "evaluate",
            adapters,
            data=self.lesson.tokens.content_key,
            batch_size=self.lesson.training.evaluation_batch_size,
        )

    def export(self, *adapters: Output) -> Output:
        """Return the files of the adapter as PEFT has them; ``adapters`` as for :meth:`evaluate`."""
        work = self._works.describe("export", adapters, base=self.lesson.model.base.name_or_path)
        return work.out("files")

    def _whole_gradient(self, client: int, adapter: Output, step: int) -> Work:
        return self._works.describe(
            "whole_gradient",
            (adapter,),
            batch=self._batch(client, step),
            dropout=self._dropout(client, step),
        )

    def _update(
        self,
        side: Side,
        gradients: Sequence[Output],
        clients: Sequence[int],
        step: int,
        regularizer: Regularizer | None = None,
    ) -> Side:
        told = {}
        if regularizer is not None and not regularizer.is_none:
            told["regularizer"] = told_part(regularizer)
        work = self._works.describe(
            "update",
            (side.adapter, side.optimizer, *gradients),
            weights=self._weights(clients),
            **self._optimizer_step(step),
            **told,
        )
        return Side(work.out("adapter"), work.out("optimizer"))

    def _weights(self, clients: Collection[int]) -> list[float]:
        """Return the clients' shares in the data of those who take part, adding up to one."""
        total = sum(len(self.lesson.shares[client]) for client in clients)
        return [len(self.lesson.shares[client]) / total for client in clients]

    def _optimizer_step(self, step: int) -> dict[str, object]:
        # a run that goes on for longer is the same so far, unless the rate has fallen with the end in sight
        knows_the_end = self.lesson.training.optimizer.knows_the_end
        return {
            "optimizer": self._optimizer,
            "step": step,
            "num_steps": self.lesson.num_steps if knows_the_end else 0,
        }

    def _batch(self, client: int, step: int) -> Told:
        """Name a mini-batch by its content: the data and the rows drawn."""
        share = self.lesson.shares[client]
        rows = [share[row] for row in self._draws[client].rows(step).tolist()]
        return Told(data=self.lesson.tokens.content_key, rows=rows)

    def _dropout(self, client: int, step: int) -> int | None:
        if self.lesson.lora.dropout == 0.0:
            return None
        return stream(self.lesson.seed, "dropout", client, step).torch_seed()


@cache
def told_part(part: Part) -> Told:
    """Return the settings of a part as a work is told them."""
    return Told(**part.model_dump(mode="json"))


@cache
def _version(package: str) -> str:
    return metadata.version(package)  # parses a long file
