"""One model with slots for what is trained, cut anywhere, shared by any number of clients.

What belongs to a client is an :data:`Adapter`, a plain dictionary of tensors by name. A forward pass puts
the tensors of one adapter into the slots and runs the blocks directly.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosim.learning.data.batch import Batch
from cosim.learning.dropout import LoraDropouts
from cosim.learning.families import take_apart
from cosim.learning.families.hooked import HookedBody
from cosim.learning.families.kernels import Attend
from cosim.learning.families.proof import prove
from cosim.learning.outputs import Outputs, Scored, losses_of, scored_of
from cosim.learning.parameters import PEFT, parameters_of
from cosim.learning.shape import ModelShape, ModelTask, check_cut
from cosim.learning.slots import BlockSlots, Slot, refuse_unannounced
from cosim.learning.trainable import Trainable
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.base import Base, Dtype

Adapter = dict[str, Tensor]
"""What is trained, by the names it is saved under: LoRA factors and a classifier's head, or any others."""


class SplitModel:
    """A base with slots for what is trained; build it with :meth:`load`.

    Dropout of the base is off: it was meant for pre-training. LoRA dropout draws from a
    stream of its own per block, so that under one seed the cut changes nothing. Not for
    two threads at once: the slots are shared.

    Attributes
    ----------
    shape
        Sizes of the model.
    trainable
        What is trained.
    names
        Names of all trained tensors: in front of the blocks, block by block, behind them.
    trains_embedding, trains_head
        Whether the first block already sees what training changes, and whether the head is trained.
    num_frozen
        Blocks in front of the first trained one: what they make of a batch never changes,
        unless the embedding is trained.
    """

    def __init__(
        self,
        model: Any,
        inner: Any,
        shape: ModelShape,
        trainable: Trainable,
        seed: int,
        tokenizer: Path | None,
    ) -> None:
        self.shape, self.trainable = shape, trainable
        self._model, self._inner, self._tokenizer = model, inner, tokenizer
        self._seed = seed
        self._precision: Callable[[], AbstractContextManager[object]] = nullcontext
        self._body = take_apart(inner, shape)
        self._body.first_position = trainable.first_position
        first = next(weights for name, weights in inner.named_parameters() if ".lora_" not in name)
        self._dtype, self._device = first.dtype, first.device
        self._like = torch.empty(0, dtype=self._dtype, device=self._device)
        places = {one.name: one.block for one in trainable.parameters(shape)}
        self._slots = BlockSlots(model, places, shape.num_layers)
        self.trains_embedding = trainable.trains("embedding")
        if isinstance(self._body, HookedBody):
            self._body.keeps_calls = not (self.trains_embedding and shape.blocks_see_front)
        self.trains_head = bool(self._slots.names(shape.num_layers + 1, shape.num_layers + 1))
        self.num_frozen = max(trainable.first_block(shape) - 1, 0)
        self._dropouts = LoraDropouts(self._body.blocks, self._device)
        self.names = self._slots.names(0, shape.num_layers + 1)

    @classmethod
    def load(
        cls,
        base: "Base",
        trainable: Trainable,
        task: ModelTask = "causal_lm",
        num_labels: int = 0,
        dtype: "Dtype" = "float32",
        device: str = "cpu",
        seed: int = 0,
        autocasts: bool = False,
    ) -> "SplitModel":
        """Return the base with slots for what is trained, and a fresh head where it classifies.

        Parameters
        ----------
        base, trainable
            The pre-trained weights; what is trained of them or beside them.
        task, num_labels
            What the model is used for, and among how many labels a classifier chooses.
        dtype, device
            Number format of the weights, and where all tensors live. Beside
            bfloat16 what is trained is float32: an optimiser's steps would be rounded away.
        seed, autocasts
            Decides the initial values; whether products and attention are in bfloat16.

        Raises
        ------
        ScenarioError
            If the base cannot be loaded or used for the task, a target module is unknown, or
            anything else would be trained than what the settings say.
        """
        if device.startswith("cuda"):
            # looked at once, at the first product: cuBLAS gives the same bits only with a fixed workspace
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        shape = trainable.fitted(base.shape(task, num_labels))
        trainable.check(shape, dtype, is_cut=False)
        load = base.load if trainable.takes_transformers else base.pieces
        model: Any = load(task, num_labels, dtype).to(device)
        model.name_or_path = base.name_or_path
        if shape.listed:  # found in the modules of the model, by no family
            prove(model, shape)
        attached, inner = trainable.attach(model, shape, base.name_or_path)
        refuse_unannounced(attached, [one.name for one in trainable.parameters(shape)])
        made = cls(attached.eval(), inner, shape, trainable, seed, base.tokenizer_folder())
        if autocasts:
            made._precision = partial(torch.autocast, made._device.type, torch.bfloat16)
        return made

    @property
    def config(self) -> dict[str, Any]:
        """The values of the model's Hugging Face config."""
        config = self._inner.config
        values: dict[str, Any] = vars(config) if isinstance(config, SimpleNamespace) else config.to_dict()
        return values

    def base_weights(self) -> dict[str, Tensor]:
        """Return the parameters of the pre-trained model by their names in transformers, as they are now."""
        names = {one.name for one in parameters_of(self.shape)}
        found = self._model.named_parameters()
        plain = {one.removeprefix(f"{PEFT}.").replace(".base_layer.", "."): each for one, each in found}
        return {name: weights for name, weights in plain.items() if name in names}

    def of_pieces(self, pieces: Any, shape: ModelShape) -> "SplitModel":
        """Return a model of other plain modules and their shape, with the same trained and computed so."""
        if hasattr(self._inner.get_submodule(shape.inner_name), "rotary_emb"):
            inner = pieces.get_submodule(shape.inner_name)
            inner.rotary_emb = self._inner.get_submodule(shape.inner_name).rotary_emb
        attached, inner = self.trainable.attach(pieces.to(self._device), shape, "")
        made = SplitModel(attached.eval(), inner, shape, self.trainable, self._seed, self._tokenizer)
        made._body.attend, made._precision = self._body.attend, self._precision
        return made

    def attend_by(self, attend: Attend) -> Attend:
        """Compute attention in another way from now on, and return that of before."""
        before, self._body.attend = self._body.attend, attend
        return before

    def initial_adapter(self) -> Adapter:
        """Return what is trained as it is before training.

        Each has a stream of its own name, in float32 on the CPU, so nothing else changes it.
        """
        classifier = {one.name for one in self.trainable.parameters(self.shape) if one.role == "classifier"}
        return {slot.name: self._initial(slot, slot.name in classifier) for slot in self._slots.all}

    def _initial(self, slot: Slot, is_classifier: bool) -> Tensor:
        generator = torch.Generator().manual_seed(stream(self._seed, "adapter", slot.name).torch_seed())
        if is_classifier:
            values = torch.zeros(slot.weights.shape, dtype=torch.float32)
            if values.dim() == 2:
                deviation = float(getattr(self._model.config, "initializer_range", 0.02))
                values.normal_(std=deviation, generator=generator)
        else:
            values = self.trainable.initial(slot.name, slot.weights.detach(), generator)
        trained = torch.float32 if self._dtype == torch.bfloat16 else self._dtype
        return values.to(device=self._device, dtype=trained)

    def client_names(self, cut_layer: int) -> tuple[str, ...]:
        """Return the names of what a client trains: what is trained up to block ``cut_layer``."""
        return self._slots.names(0, cut_layer)

    def server_names(self, cut_layer: int) -> tuple[str, ...]:
        """Return the names of what the main server trains: in later blocks, and behind them."""
        return self._slots.names(cut_layer + 1, self.shape.num_layers + 1)

    def frozen_prefix(self, batch: Batch, last_block: int) -> Tensor:
        """Return what the blocks in front of the first trained one make of a batch, up to ``last_block``.

        Shape (batch_size, sequence_length, hidden_size); nothing trained, dropout or gradient is in it.
        """
        depth = min(self.num_frozen, last_block)
        with torch.no_grad():
            return self.run_blocks({}, self.embed(batch), self.attention_mask(batch), 1, depth)

    def client_forward(
        self,
        adapter: Adapter,
        batch: Batch,
        cut_layer: int,
        dropout_seed: int | None = None,
        prefix: Tensor | None = None,
        residual: Adapter | None = None,
    ) -> Tensor:
        """Return the activations at the cut, shape (batch_size, sequence_length, hidden_size).

        Parameters
        ----------
        adapter
            At least the tensors of :meth:`client_names`. Gradients flow into those
            that require them; the frozen weights take none.
        batch
            Its labels are not looked at.
        cut_layer
            Blocks on the client, 1 to ``num_layers - 1``.
        dropout_seed
            Stream of the LoRA dropout; None switches it off.
        prefix
            :meth:`frozen_prefix` of this batch up to the cut, where it is known already.
        residual
            What is added to the frozen weights, each of shape (outputs, inputs), by
            the name of the A beside them.

        Raises
        ------
        ValueError
            If the cut leaves a side without a block, or the sequence is too long for the model.
        """
        check_cut(self.shape, cut_layer)
        hidden, first_block = self.begin(batch, cut_layer, prefix)
        mask = self.attention_mask(batch)
        return self.run_blocks(adapter, hidden, mask, first_block, cut_layer, dropout_seed, residual)

    def server_outputs(
        self,
        adapter: Adapter,
        activations: Tensor,
        batch: Batch,
        cut_layer: int,
        dropout_seed: int | None = None,
    ) -> Outputs:
        """Return losses and scores from the activations at the cut.

        Parameters
        ----------
        adapter
            At least the tensors of :meth:`server_names`.
        activations
            Shape (batch_size, sequence_length, hidden_size), on any device and in any
            float format; a leaf that requires a gradient receives it.
        batch, cut_layer, dropout_seed
            As given to :meth:`client_forward`.

        Raises
        ------
        ValueError
            If the cut leaves a side without a block.
        """
        check_cut(self.shape, cut_layer)
        return self._outputs(adapter, self.placed(activations), batch, cut_layer + 1, dropout_seed)

    def placed(self, activations: Tensor) -> Tensor:
        """Return activations where the model computes, and in its number format."""
        return activations.to(device=self._device, dtype=self._dtype)

    def whole_outputs(
        self,
        adapter: Adapter,
        batch: Batch,
        dropout_seed: int | None = None,
        prefix: Tensor | None = None,
        residual: Adapter | None = None,
    ) -> Outputs:
        """Return losses and scores of the model without a cut; evaluate under ``torch.no_grad()``."""
        hidden, first_block = self.begin(batch, self.shape.num_layers, prefix)
        return self._outputs(adapter, hidden, batch, first_block, dropout_seed, residual)

    def _outputs(
        self,
        adapter: Adapter,
        hidden: Tensor,
        batch: Batch,
        first_block: int,
        dropout_seed: int | None = None,
        residual: Adapter | None = None,
    ) -> Outputs:
        """Return losses and scores from what block ``first_block`` sees; scored are targets alone."""
        scored, last = self.scored(batch), self.shape.num_layers
        mask, places = self.attention_mask(batch), self.tensor(scored.places)
        rows = self.run_blocks(adapter, hidden, mask, first_block, last, dropout_seed, residual, places)
        logits, targets = self.logits(adapter, rows), self.tensor(scored.targets)
        examples, losses = self.tensor(scored.examples), losses_of(logits, targets)
        loss_sum = losses.new_zeros(len(batch.input_ids)).index_add(0, examples, losses)
        return Outputs(loss_sum, self.tensor(batch.num_targets), logits, targets, examples)

    def begin(self, batch: Batch, last_block: int, prefix: Tensor | None) -> tuple[Tensor, int]:
        """Return what the first block with something trained sees, and its number."""
        if self.trains_embedding:
            return self.token_ids(batch), 0
        hidden = self.frozen_prefix(batch, last_block) if prefix is None else prefix
        return hidden, min(self.num_frozen, last_block) + 1

    def embed(self, batch: Batch) -> Tensor:
        """Return what the first block sees, shape (batch_size, sequence_length, hidden_size)."""
        return self._body.embed(self.token_ids(batch))

    def token_ids(self, batch: Batch) -> Tensor:
        """Return the tokens, shape (batch_size, sequence_length): what "block 0", the embedding, sees."""
        length = batch.input_ids.shape[1]
        if length > self.shape.max_positions:
            raise ValueError(f"a sequence of {length} tokens is too long; limit {self.shape.max_positions}")
        return self.tensor(batch.input_ids)

    def attention_mask(self, batch: Batch) -> Tensor | None:
        """Return what is added to attention scores, broadcast to (batch_size, heads, length, length).

        None where nothing has to be: a causal model hides what is later, padding on the right included.
        """
        seen = batch.attention_mask
        is_right = bool((seen[:, :-1] >= seen[:, 1:]).all())
        return (
            None if seen.all() or (self._body.is_causal and is_right) else self._body.added(seen, self._like)
        )

    def run_blocks(
        self,
        adapter: Adapter,
        hidden: Tensor,
        mask: Tensor | None,
        first_block: int,
        last_block: int,
        dropout_seed: int | None = None,
        residual: Adapter | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Return what blocks ``first_block`` to ``last_block``, counted from 1, make of ``hidden``.

        With ``places`` only these positions, counted through all examples, shape (count, hidden_size).
        Block 0 is the embedding, where that is trained: ``hidden`` are then :meth:`token_ids`.
        Pure in its tensors, without control flow on their values: ``torch.func.vmap`` may stack clients.
        """
        for block in range(first_block, last_block + 1):
            self._slots.fill(block, adapter)
            self._slots.merge(block, residual)
        if first_block == 0:
            hidden = self._body.embed(hidden)
        blocks = range(max(first_block, 1) - 1, last_block)
        for index in blocks:
            wanted = places if index == blocks[-1] else None
            with self._dropouts.on(index, dropout_seed), self._precision():
                hidden = self._body.run_block(self._body.blocks[index], hidden, mask, wanted)
        return hidden

    def block_outputs(self, adapter: Adapter, batch: Batch) -> list[Tensor]:
        """Return what each block makes of a batch, one after the other; prefixes are left out."""
        mask, found = self.attention_mask(batch), [self.embed(batch)]
        self._body.sees_prefixes = False
        try:
            for block in range(1, self.shape.num_layers + 1):
                found.append(self.run_blocks(adapter, found[-1], mask, block, block))
        finally:
            self._body.sees_prefixes = True
        return found[1:]

    def logits(self, adapter: Adapter, rows: Tensor) -> Tensor:
        """Return the scores of positions behind the last block, (count, hidden_size); ``vmap`` may stack."""
        self._slots.fill(-1, adapter)
        with self._precision():
            return self._body.scores(rows)

    def scored(self, batch: Batch, *, every: bool = False) -> Scored:
        """Return what the head looks at; ``every`` position where its shape must not depend on labels."""
        return scored_of(batch, self.shape.task, is_causal=self._body.is_causal, every=every)

    def tensor(self, numbers: NDArray[np.int64]) -> Tensor:
        """Return a copy of numbers where the model computes."""
        return torch.tensor(numbers, device=self._device)

    def adapter_files(
        self, adapter: Adapter, residual: Adapter | None = None, labels: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Return what was trained as its ecosystem has it, by file name; equal tensors give equal bytes.

        What is merged into the base is a file beside it, by the names and in the
        shapes of the parameters of the model that was trained, and a text says how to add it.
        ``labels`` are the classes in the order of a classifier's scores.
        """
        tensors = {name: adapter[name] for name in self.names}
        return self.trainable.files(
            self._model, tensors, self._slots.stored(residual or {}), labels, self._tokenizer
        )
