"""The task: everything that decides what is learned, apart from who acts when."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosim.cores import processes
from cosim.errors import ScenarioError
from cosim.graph.code_identity import code_key, code_of
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.architectures import OURS
from cosim.learning.codecs import NO_CODECS, Codecs
from cosim.learning.data.counts import counts_of, notes_of
from cosim.learning.data.draws import BatchDraws
from cosim.learning.data.patches import PatchCorpus
from cosim.learning.data.tokenizer import Tokenizer
from cosim.learning.data.tokens import SpecialIds, TokenCorpus
from cosim.learning.flop import client_memory_bytes, server_memory_bytes
from cosim.learning.group_size import group_size, pays_together
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.shape import ModelShape
from cosim.learning.shapes import shape_of
from cosim.learning.stages import Stage, check_stages
from cosim.learning.trainable import Trainable
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.units import Kept


@dataclass(frozen=True)
class Task:
    """What is learned; torch-free, and nothing is tokenised before it is needed.

    Attributes
    ----------
    model, trainable, data, training
        The tables of the scenario.
    shape
        Sizes of the model that is trained.
    tokens
        The texts as token ids.
    shares
        Rows of the training set each client holds.
    num_steps
        Local steps in the whole run, for the schedule of the learning rate.
    seed
        Decides the initial adapter, the batches and dropout.
    aggregator
        What clients train and send, and what they start a round from.
    codecs
        What payloads travel as.
    rule
        What corrects the gradients of local steps.
    name
        What it is called beside others; empty for the only one. It decides nothing by itself.
    stages
        What is trained before ``trainable`` is.
    """

    model: Model
    trainable: Trainable
    data: Data
    training: TrainingSettings
    shape: ModelShape
    tokens: TokenCorpus
    shares: tuple[tuple[int, ...], ...]
    num_steps: int
    seed: int
    aggregator: Aggregator = FEDAVG
    codecs: Codecs = NO_CODECS
    rule: LocalRule = NO_RULE
    name: str = ""
    stages: tuple[Stage, ...] = ()

    @classmethod
    def prepare(
        cls,
        model: Model,
        trainable: Trainable,
        data: Data,
        training: TrainingSettings,
        *,
        num_clients: int,
        num_steps: int,
        seed: int,
        is_cut: bool = False,
        aggregator: Aggregator = FEDAVG,
        codecs: Codecs = NO_CODECS,
        rule: LocalRule = NO_RULE,
        name: str = "",
        stages: tuple[Stage, ...] = (),
    ) -> "Task":
        """Read the config and the texts, and deal them out.

        Raises
        ------
        ScenarioError
            If model, data and settings do not fit each other.
        """
        config = model.base.read_config()
        corpus = data.source.load()
        if model.task == "classification" and len(corpus.labels) < 2:
            found = f" ({corpus.labels[0]!r})" if corpus.labels else ""
            raise ScenarioError(
                f"data.source: {len(corpus.labels)} class(es){found} in {data.source.label_place}; "
                "classification needs at least 2."
            )
        num_labels = len(corpus.labels) if model.task == "classification" else 0
        chance = stream(seed, "trainable").torch_seed()
        trainable = trainable.drawn(chance)
        stages = tuple(one.model_copy(update={"trainable": one.trainable.drawn(chance)}) for one in stages)
        whole = shape_of(config, model.task, num_labels)
        shape = trainable.fitted(whole)
        # a target that matches nothing is refused here, before anything is built
        trainable.check(shape, model.dtype, is_cut=is_cut)
        check_stages(stages, trainable, shape, model.dtype)
        if training.executor == "batched" and not shape.names.has_blocks_of_ours:
            raise ScenarioError(
                f"training.executor: 'batched' is for blocks of {OURS}, and a model of {shape.family!r} is "
                "computed by code of transformers; take 'sequential'."
            )
        if training.executor == "auto":
            pays = not trainable.drops and pays_together(model, shape, data, training, num_clients)
            training = training.model_copy(update={"executor": "batched" if pays else "sequential"})
        aggregator.check_ranks(trainable.lora_rank)
        aggregator.private_of(trainable.parameters(shape), shape.num_layers)
        if shape.patches is None and any(one.image is not None for one in corpus.train[:1]):
            raise ScenarioError(
                f"data.source: {data.source.kind!r} gives images, and a model of {shape.family!r} reads "
                "text; take a base of model_type 'vit', or a source of texts."
            )
        if shape.patches is not None:  # an image has as many positions as the model
            data = data.model_copy(update={"sequence_length": shape.max_positions})
        if data.sequence_length > shape.max_positions:
            taken = whole.max_positions - shape.max_positions
            less = f" less the {taken} that the trainable {trainable.kind!r} takes" if taken else ""
            raise ScenarioError(
                f"data.sequence_length: {data.sequence_length} tokens are more than the model's "
                f"{whole.max_positions} positions{less}; make it shorter."
            )
        tokenizer_folder = model.base.tokenizer_folder()
        if tokenizer_folder is None and shape.patches is None:
            raise ScenarioError(
                "model.base: has no tokenizer, and the data is text; name one with tokenizer_path."
            )
        seen: dict[str, Any] = {
            "source": data.source,
            "tokenizer": Tokenizer(tokenizer_folder or Path()),
            "special": SpecialIds.of(config),
            "sequence_length": data.sequence_length,
            "task": model.task,
            "loss_on": data.loss_on,
            "prompt_end": data.prompt_end,
        }
        tokens = TokenCorpus(**seen) if shape.patches is None else PatchCorpus(**seen, patches=shape.patches)
        if data.source.needs_tokenizer:
            corpus = tokens.corpus
        shares = data.partition.split(corpus.train, num_clients, stream(seed, "partition"))
        if data.drift is not None:
            shares = tuple(data.drift.ordered(share, corpus.train) for share in shares)
        least = min(map(len, shares))
        if training.draws == "independent" and least < training.batch_size:
            raise ScenarioError(
                f"training.draws: 'independent' draws {training.batch_size} examples of a client's share, "
                f"and one has {least}; take a smaller batch_size, or draws = 'epochs'."
            )
        return cls(
            *(model, trainable, data, training, shape, tokens, shares, num_steps, seed, aggregator, codecs),
            *(rule, name, stages),
        )

    @cached_property
    def by_stage(self) -> tuple["Task", ...]:
        """The task as it is in each stage, this one last."""
        if not self.stages:
            return (self,)
        each = []
        for one in self.stages:
            optimizer = one.optimizer or self.training.optimizer
            training = self.training.model_copy(update={"optimizer": optimizer})
            each.append(replace(self, trainable=one.trainable, training=training, stages=()))
        return (*each, replace(self, stages=()))

    @cached_property
    def _begins(self) -> tuple[int, ...]:
        """The first round of each stage."""
        return tuple(accumulate((one.num_rounds for one in self.stages), initial=1))

    def stage(self, round_: int) -> int:
        """Return which stage a round is of, from 0."""
        return bisect_right(self._begins, round_) - 1

    def begins_stage(self, round_: int) -> bool:
        """Return whether a round is the first of a stage."""
        return round_ in self._begins

    def in_round(self, round_: int) -> "Task":
        """Return the task as it is in a round."""
        return self.by_stage[self.stage(round_)]

    def kind(self, round_: int) -> int:
        """Return the first round that is like this one in what is trained and sent."""
        begin = self._begins[self.stage(round_)]
        return begin + (round_ - begin) % self.aggregator.period

    @property
    def kinds(self) -> tuple[int, ...]:
        """The first rounds of every kind."""
        period = self.aggregator.period
        return tuple(
            dict.fromkeys(self.kind(begin + more) for begin in self._begins for more in range(period))
        )

    @cached_property
    def private(self) -> frozenset[str]:
        """Names of what no client sends of what is trained."""
        return self.aggregator.private_of(self.trainable.parameters(self.shape), self.shape.num_layers)

    def narrowed(self, kept: "Kept") -> "Task":
        """Return the task of a client that keeps only so many units of each block, for what it takes."""
        if kept not in self._narrowed:
            from cosim.learning.units import narrowed

            self._narrowed[kept] = replace(self, shape=narrowed(self.shape, kept))
        return self._narrowed[kept]

    @cached_property
    def _narrowed(self) -> dict["Kept", "Task"]:
        return {}

    @property
    def num_clients(self) -> int:
        """How many clients hold a share."""
        return len(self.shares)

    @cached_property
    def test_rows(self) -> tuple[int, ...]:
        """The held-out examples, in the order in which a drifting window meets them."""
        rows = range(len(self.tokens.test))
        drift = self.data.drift
        return tuple(rows) if drift is None else drift.ordered(rows, self.tokens.corpus.test)

    def draws(self, client: int) -> BatchDraws:
        """Return the mini-batches of a client, as rows of its share, or of the window that drifts over it."""
        training, chance = self.training, stream(self.seed, "batches", client)
        num_rows, drift = len(self.shares[client]), self.data.drift
        count = num_rows if drift is None else drift.count(num_rows)
        return BatchDraws(count, training.batch_size, chance, training.draws)

    @cached_property
    def held_out(self) -> tuple[tuple[int, ...], ...]:
        """Rows of the held-out examples that are each client's own."""
        corpus, chance = self.tokens.corpus, stream(self.seed, "held_out")
        return self.data.partition.split_held_out(corpus.train, self.shares, corpus.test, chance)

    @property
    def evaluated_clients(self) -> tuple[int, ...]:
        """The clients that are evaluated by themselves, if any: those with held-out examples."""
        if not self.training.evaluate_clients:
            return ()
        return tuple(client for client, rows in enumerate(self.held_out) if rows)

    def client_trains(self, cut_layer: int) -> bool:
        """Return whether anything is trained in what is kept on a client."""
        return self.trainable.first_block(self.shape) <= cut_layer

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of each client in all training examples, adding up to one."""
        total = sum(len(share) for share in self.shares)
        return tuple(len(share) / total for share in self.shares)

    def client_memory_bytes(self, cut_layer: int, lora_rank: int) -> int:
        """Return what a client needs for a step of any round, bytes."""
        return max(
            client_memory_bytes(
                one.shape,
                one.trainable.of_rank(lora_rank),
                cut_layer,
                one.training.batch_size,
                one.data.sequence_length,
                **one._number_sizes,
                factors=one.aggregator.trained(round_),
                recomputes=one.training.gradient_checkpointing,
            )
            for one in self.by_stage
            for round_ in one.kinds
        )

    def server_memory_bytes(self, cut_layer: int, lora_rank: int, num_batches: int) -> int:
        """Return what the main server needs to work on this many mini-batches at once, bytes."""
        return server_memory_bytes(
            self.shape,
            self.trainable.of_rank(lora_rank),
            cut_layer,
            self.training.batch_size * num_batches,
            self.data.sequence_length,
            **self._number_sizes,
            recomputes=self.training.gradient_checkpointing,
        )

    def server_batch_bytes(self, cut_layer: int, lora_rank: int) -> int:
        """Return what of that is for one mini-batch that was cut there, bytes."""
        with_one, without = (self.server_memory_bytes(cut_layer, lora_rank, count) for count in (1, 0))
        return with_one - without

    def whole_memory_bytes(self, lora_rank: int) -> int:
        """Return what the uncut model needs for a step, bytes: all blocks, and then the head."""
        num_layers = self.shape.num_layers
        return max(
            one.client_memory_bytes(num_layers, lora_rank) + one.server_memory_bytes(num_layers, lora_rank, 1)
            for one in self.by_stage
        )

    def whole_gradient_bytes(self, trainable: Trainable) -> int:
        """Return what the uncut model needs for a gradient by something else than is trained, bytes."""
        sides = (client_memory_bytes, server_memory_bytes)
        shape, per_number = self.shape, self.model.bits_per_number // 8
        batch = self.training.batch_size, self.data.sequence_length
        return sum(one(shape, trainable, shape.num_layers, *batch, per_number, 0) for one in sides)

    @property
    def _number_sizes(self) -> dict[str, int]:
        return {
            "bytes_per_number": self.model.bits_per_number // 8,
            "moments_per_weight": self.training.optimizer.numbers_per_parameter,
        }

    @property
    def num_workers(self) -> int | None:
        """Processes that compute the clients, with one thread each; None where this one does with more."""
        asked = self.training.workers
        if asked is None or self.model.torch_device != "cpu":
            return None
        return min(processes(asked), self.num_clients)

    @cached_property
    def max_group(self) -> int:
        """Most mini-batches computed in one call."""
        return group_size(self.model, self.shape, self.data, self.training, self.num_clients)

    @property
    def executor_settings(self) -> dict[str, Any]:
        """What executor and precision add to that which decides values, none where all is as by default."""
        autocast = self.model.autocast
        mixed = {} if autocast is None else {"autocast": autocast}
        if self.training.executor == "sequential":
            return mixed
        code = code_key("cosim.graph.batched", "cosim.learning.stacks")
        return mixed | {
            "executor": self.training.executor,
            "slots": self.max_group,
            "activations": "fused",
            "code": code,
        }

    @cached_property
    def model_hash(self) -> str:
        """A hash, hex, of the pre-trained weights."""
        return self.model.base.content_key()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of model and texts, in sentences; torch is not needed.

        Raises
        ------
        ScenarioError
            If the weights do not fit the model, or the tokenizer cannot be read or
            does not belong to it.
        """
        highest = max(one.highest_id for one in counts_of(self.tokens))
        if highest >= self.shape.vocab_size:
            raise ScenarioError(
                f"model.base: the tokenizer gives id {highest} and the model has {self.shape.vocab_size} "
                "tokens; use the tokenizer that belongs to the model."
            )
        of_base = self.model.base.shape(self.shape.task, self.shape.num_labels)
        return (*self.model.base.weight_notes(of_base), *notes_of(self.tokens))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of a classifier's scores; none for a causal model."""
        return self.tokens.corpus.labels if self.shape.task == "classification" else ()

    @cached_property
    def key(self) -> str:
        """A hash, hex, of model, data and code: what is learned of others has nothing in common with this."""
        code = code_of(self.model.base), code_key("cosim.learning.learner")
        names = (self.model_hash, *code, self.shape.task, self.tokens.key, self.seed)
        return blake2b(repr(names).encode(), digest_size=16).hexdigest()
