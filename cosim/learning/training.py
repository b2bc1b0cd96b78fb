"""One training under way: its graph, the decided cut and rank, and the nodes that all trainings have.

Nothing is computed here and no clock is known. Nodes of a model that is cut are
in ``split_nodes``, those of a whole one in ``whole_nodes``, sums over the air in ``air_sums``, evaluation
and export in ``results``.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from cosim.graph.code_identity import code_of, version_of
from cosim.graph.node import Graph, Node, Params, Ref
from cosim.learning.amounts import Amounts
from cosim.learning.codec import Encoding
from cosim.learning.operations.average import mean
from cosim.learning.operations.hand_over import hand_over
from cosim.learning.operations.start import start
from cosim.learning.operations.transmit import encode, rebuild, transmit
from cosim.learning.operations.whole_step import update
from cosim.learning.payload import Transmission
from cosim.learning.regularizer import Regularizer
from cosim.learning.stages import Stage
from cosim.learning.task import Task
from cosim.learning.train_state import Guidance, TrainState
from cosim.rng import stream


class Training:
    """Adds the nodes of one training to the graph.

    Parameters
    ----------
    task
        What is learned.
    cut_layer, lora_rank
        As decided; the task's own rank is not used.
    client_cut_layers
        The cut of each client, where they differ; ``cut_layer`` is then the smallest.

    Attributes
    ----------
    graph
        Takes the nodes.
    whole_run
        The training that this is a stage of; itself where there is but one.
    amounts
        What each client computes and sends.
    cuts
        Blocks each client keeps.
    is_mean
        Whether gradients are means over mini-batches.
    params_of
        Returns a part as parameters of a node.
    """

    def __init__(
        self,
        task: Task,
        cut_layer: int,
        lora_rank: int,
        client_cut_layers: tuple[int, ...] | None = None,
    ) -> None:
        self.task = task
        self.cut_layer = cut_layer
        self.cuts = client_cut_layers or (cut_layer,) * task.num_clients
        self.lora_rank = lora_rank
        self.graph = Graph("cosim.learning.learner")
        self.whole_run = self
        self._trains = tuple(task.client_trains(cut) for cut in self.cuts)
        self.amounts = Amounts(task, lora_rank, self.cuts)
        self.params_of = cache(Params.of)
        self.optimizer = self.params_of(task.training.optimizer)
        self.is_mean = task.training.gradients.is_mean
        self._drift = task.data.drift
        self._draws = [task.draws(client) for client in range(task.num_clients)]
        self._first: list[int | None] = [None] * task.num_clients  # where a client's window begins
        self._time_s = 0.0

    def of_stage(self, number: int) -> "Training":
        """Return the training of a stage of the task, as decided; its nodes are numbered along with these."""
        stages = self.task.by_stage
        if len(stages) == 1:
            return self
        training = Training(stages[number], self.cut_layer, self.lora_rank, self.cuts)
        training.graph, training.whole_run = self.graph.beside(number), self
        return training

    def hand_over(
        self, before: "Training", stage: Stage, part: str, trained: Ref, merged: Ref | None
    ) -> Node:
        """Return the node of what this stage starts from.

        Parameters
        ----------
        before, stage
            The training of the stage before, and that stage.
        part
            As for :meth:`start`.
        trained, merged
            What that stage learned, and what it merged into the base.
        """
        trainable = before.task.trainable
        settings = {"kind": trainable.kind, **trainable.deciding(self.lora_rank)}
        return self.graph.add(
            hand_over,
            (trained, self.start(part).adapter, *(() if merged is None else (merged,))),
            before=Params(settings, code_of(trainable)),
            handover=self.params_of(stage.handover),
            optimizer=self.optimizer,
        )

    def trains(self, client: int) -> bool:
        """Return whether a client has an adapter: if not, no gradient is for it and nothing is averaged."""
        return self._trains[client]

    @cached_property
    def base(self) -> Params:
        """What decides numbers that no adapter does."""
        task = self.task
        settings = {
            "base": task.model_hash,
            "dtype": task.model.dtype,
            "device": task.model.torch_device,
            "torch": version_of("torch"),
            "transformers": version_of("transformers"),
        }
        return Params(settings | task.executor_settings, code_of(task.model.base))

    def start(self, part: str, cut_layer: int | None = None) -> TrainState:
        """Return the initial adapter and optimiser of ``part``: client, server or whole.

        Without ``cut_layer`` at the cut of the training, the smallest where they differ.
        """
        task = self.task
        node = self.graph.add(
            start,
            (),
            part=part,
            base=task.model_hash,
            base_code=code_of(task.model.base),
            task=task.shape.task,
            num_labels=task.shape.num_labels,
            dtype=task.model.dtype,
            device=task.model.torch_device,
            trainable=Params(
                {"kind": task.trainable.kind, **task.trainable.deciding(self.lora_rank)},
                code_of(task.trainable),
            ),
            cut_layer=None if part == "whole" else cut_layer or self.cut_layer,
            optimizer=self.optimizer,
            seed=stream(task.seed, "adapter").torch_seed(),
            torch=version_of("torch"),
            transformers=version_of("transformers"),
            peft=version_of("peft"),
            **task.executor_settings,
        )
        return TrainState(node.ref("adapter"), node.ref("optimizer"))

    def transmit(
        self,
        codec: Encoding,
        tensors: Ref,
        link: str,
        client: int,
        step: int,
        *,
        reference: Ref | None = None,
        memory: Ref | None = None,
        sparsification_ratio: float | None = None,
    ) -> Transmission:
        """Return a sending through a codec; nothing is added where the codec changes nothing.

        Parameters
        ----------
        tensors
            What is sent: tensors by name, or a single one.
        link, client, step
            Whose sending it is; chance is its own. ``step`` counts as the scheme
            counts what goes over this link.
        reference, memory
            What both ends have; what the sender holds back from earlier.
        sparsification_ratio
            As an allocator decided; given to codecs that obey one.
        """
        if codec.is_transparent:
            return Transmission(tensors.node, tensors)
        outputs = {"reference": reference, "memory": memory if codec.keeps_memory else None}
        given = {name: output for name, output in outputs.items() if output is not None}
        chance = stream(self.task.seed, "codec", link, client, step)
        node = self.graph.add(
            transmit,
            (tensors, *given.values()),
            codec=self.params_of(codec),
            given=tuple(given),
            sparsification_ratio=sparsification_ratio if codec.obeys_ratio else None,
            seed=chance.torch_seed() if codec.needs_chance else None,
            **self.common_chance(codec, link, step),
        )
        if codec.is_summed and not codec.keeps_memory:
            sent = self.graph.add(encode, node.inputs, **node.params).ref("numbers")
            return Transmission(sent.node, node.ref("tensors"), {"bits": node.ref("bits"), "numbers": sent})
        names = ["bits", *codec.figure_names]
        also = {"memory": codec.keeps_memory, "mask": codec.has_mask, "numbers": codec.is_summable}
        names += [name for name, has in also.items() if has]
        return Transmission(node, node.ref("tensors"), {name: node.ref(name) for name in names})

    def common_chance(self, codec: Encoding, link: str, step: int) -> dict[str, Any]:
        """Return the seed that all who send over a link at a step draw from alike, for a codec that does."""
        if not codec.needs_common_chance:
            return {}
        names = ("codec", link) if codec.keeps_common_chance else ("codec", link, step)
        return {"common_seed": stream(self.task.seed, *names).torch_seed()}

    def mean(self, adapters: Mapping[int, Ref], weights: Sequence[float] | None = None) -> Node:
        """Return the mean of what clients have, factor by factor, by their data without weights."""
        shares = self.weights(adapters) if weights is None else list(weights)
        return self.graph.add(mean, list(adapters.values()), weights=shares)

    def rebuild(
        self, reference: Ref, senders: Mapping[int, Ref], weights: Sequence[float], codec: Encoding, step: int
    ) -> Ref:
        """Return what a server has of the weighted sum of the numbers that steps made of updates."""
        node = self.graph.add(
            rebuild,
            [reference, *senders.values()],
            weights=list(weights),
            encoding=self.params_of(codec),
            **self.common_chance(codec, "federated_uplink", step),
        )
        node.is_rebuilt = True
        return node.ref("adapter")

    def update(
        self,
        before: TrainState,
        gradients: Sequence[Ref],
        clients: Sequence[int],
        step: int,
        regularizer: Regularizer | None = None,
        guidance: Guidance | None = None,
    ) -> TrainState:
        """Return the train state after a step along the weighted sum of these clients' gradients."""
        more: dict[str, Any] = {}
        if regularizer is not None and not regularizer.is_none:
            more["regularizer"] = self.params_of(regularizer)
        known: Mapping[str, Ref] = {}
        if guidance is not None and not guidance.rule.is_none:
            known = guidance.known
            more |= {"rule": self.params_of(guidance.rule), "given": tuple(known)}
        node = self.graph.add(
            update,
            (before.adapter, before.optimizer, *gradients, *known.values()),
            weights=self.weights(clients),
            **self.optimizer_step(step),
            **more,
        )
        return before.stepped(node)

    def weights(self, clients: Collection[int]) -> list[float]:
        """Return the clients' shares in the data of those who take part, adding up to one."""
        total = sum(len(self.task.shares[client]) for client in clients)
        return [len(self.task.shares[client]) / total for client in clients]

    def optimizer_step(self, step: int) -> dict[str, object]:
        """Return what a node that takes the optimiser's step number ``step`` has as parameters."""
        # a run that goes on for longer is the same so far, unless the rate has fallen with the end in sight
        knows_the_end = self.task.training.optimizer.knows_the_end
        return {
            "optimizer": self.optimizer,
            "step": step,
            "num_steps": self.task.num_steps if knows_the_end else 0,
        }

    def taken(self, client: int, step: int, side: str) -> dict[str, Any]:
        """Return how gradients of examples are taken, as parameters of a node; none where means are taken."""
        if self.is_mean:
            return {}
        part = self.task.training.gradients
        how: dict[str, Any] = {"gradients": self.params_of(part)}
        if part.release is not None:
            how["noise"] = stream(self.task.seed, "gradient_noise", client, step, side).torch_seed()
        return how

    def batch(self, client: int, step: int) -> Params:
        """Name a mini-batch by its content: the data and the rows drawn."""
        share, drawn = self.task.shares[client], self._draws[client].rows(step)
        if first := self._first[client]:
            drawn += first
        rows = list(map(share.__getitem__, drawn.tolist()))
        return Params({"data": self.task.tokens.key, "rows": rows})

    def move(self, clients: Iterable[int], time_s: float) -> None:
        """Let the windows of these clients' data, where they drift, lie as they do at an instant.

        That of held-out examples too; at the end of the data it stays there.

        Raises
        ------
        ScenarioError
            If a window would be beyond the data.
        """
        if self._drift is not None:
            self._time_s = min(time_s, self._drift.duration_s)
            for client in clients:
                self._first[client] = self._drift.first(len(self.task.shares[client]), time_s)

    def new_data(self, client: int, time_s: float) -> float:
        """Return the share of a client's window that it has never drawn from; none where nothing drifts."""
        if self._drift is None:
            return 0.0
        num_rows, before = len(self.task.shares[client]), self._first[client]
        if before is None:
            return 1.0
        return min(1.0, (self._drift.first(num_rows, time_s) - before) / self._drift.count(num_rows))

    @property
    def test_rows(self) -> dict[str, list[int]]:
        """The parameter of an evaluation that says which examples count, where data drift."""
        if self._drift is None:
            return {}
        rows = self.task.test_rows
        first = self._drift.first(len(rows), self._time_s)
        return {"rows": list(rows[first : first + self._drift.count(len(rows))])}

    def dropout(self, client: int, step: int) -> int | None:
        """Return the seed of a mini-batch's dropout, None where nothing is dropped."""
        if not self.task.trainable.drops:
            return None
        return stream(self.task.seed, "dropout", client, step).torch_seed()
