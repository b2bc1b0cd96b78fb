"""One frozen base with LoRA slots, cut anywhere, shared by any number of clients.

What belongs to a client is an :data:`Adapter`, a plain dictionary of tensors
under the names PEFT saves them by. A forward pass puts the tensors of one
adapter into the slots and runs the blocks directly.
"""

import os
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cosim.learning.adapter_files import adapter_files
from cosim.learning.data.batch import Batch
from cosim.learning.dropout import LoraDropouts, cuda_devices
from cosim.learning.families import take_apart
from cosim.learning.lora import Lora
from cosim.learning.outputs import Outputs, last_positions_of, losses_of, targets_of
from cosim.learning.shape import ModelShape, Task, check_cut
from cosim.learning.slots import Slot, fill, find_base_slots, find_slots, merge, refuse_unannounced
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.base import Base, Dtype

Adapter = dict[str, Tensor]
"""What is trained, by the names PEFT saves it under: LoRA factors, and a classifier's head."""


class SplitModel:
    """A frozen base with LoRA slots; build it with :meth:`load`.

    Dropout of the base is off: it was meant for pre-training, and a frozen layer
    does not overfit. LoRA dropout draws from a stream of its own per block, so
    that under one seed the cut changes nothing. Not for two threads at once:
    the slots are shared.

    Attributes
    ----------
    shape
        Sizes of the model.
    names
        Names of all trained tensors: block by block, then the head of a classifier.
    num_frozen
        Blocks in front of the first adapter: what they make of a batch never changes.
    """

    def __init__(self, peft_model: Any, shape: ModelShape, seed: int) -> None:
        self.shape = shape
        self._peft_model = peft_model
        self._seed = seed
        self._body = take_apart(peft_model.base_model.model, shape)
        frozen = next(weights for weights in peft_model.parameters() if not weights.requires_grad)
        self._dtype, self._device = frozen.dtype, frozen.device
        slots = find_slots(peft_model)
        self._block_slots = [
            [slots.pop(weights) for weights in block.parameters() if weights in slots]
            for block in self._body.blocks
        ]
        self._head_slots = list(slots.values())
        self.num_frozen = next(number for number, slots in enumerate(self._block_slots) if slots)
        base_slots = find_base_slots(peft_model)
        self._base_slots = [
            [base_slots[slot.name] for slot in group if slot.name in base_slots]
            for group in self._block_slots
        ]
        self._merged: set[int] = set()
        self._dropouts = LoraDropouts(self._body.blocks, self._device)
        self.names = (*self.client_names(shape.num_layers), *(slot.name for slot in self._head_slots))
        self._causal_masks: dict[int, Tensor] = {}

    @classmethod
    def load(
        cls,
        base: "Base",
        lora: Lora,
        task: Task = "causal_lm",
        num_labels: int = 0,
        dtype: "Dtype" = "float32",
        device: str = "cpu",
        seed: int = 0,
    ) -> "SplitModel":
        """Return the base with empty LoRA slots, and a fresh head where it classifies.

        Parameters
        ----------
        base, lora
            The frozen weights; where adapters go and how large they are.
        task, num_labels
            What the model is used for, and among how many labels a classifier chooses.
        dtype, device
            Number format of the frozen weights, and where all tensors live. Beside
            bfloat16 what is trained is float32: an optimiser's steps would be rounded away.
        seed
            The initial adapter follows from it.

        Raises
        ------
        ScenarioError
            If the base cannot be loaded or used for the task, a target module is unknown, or
            anything else would be trained than what the settings say.
        """
        from peft import get_peft_model

        if device.startswith("cuda"):
            # cuBLAS gives the same bits every time only with a workspace of fixed size, and torch
            # looks here once, at the first product.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        shape = base.shape(task, num_labels)
        settings = lora.peft_config(shape, base.name_or_path)
        model = base.load(task, num_labels, dtype).to(device)
        model.name_or_path = base.name_or_path
        # PEFT draws initial factors from torch's global state; they are never used.
        with torch.random.fork_rng(devices=cuda_devices(torch.device(device))), catch_warnings():
            # PEFT asks transformers a question under a name that newer releases have renamed.
            filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            peft_model = get_peft_model(model, settings)
        refuse_unannounced(peft_model, lora.trained_names(shape))
        return cls(peft_model.eval(), shape, seed)

    def fuse_activations(self) -> None:
        """Compute the GELU of GPT-2 by one kernel rather than eight: faster, and other last bits."""
        from transformers.activations import NewGELUActivation

        for module in list(self._peft_model.modules()):
            for name, child in module.named_children():
                if type(child) is NewGELUActivation:
                    setattr(module, name, nn.GELU(approximate="tanh"))

    def initial_adapter(self) -> Adapter:
        """Return the adapter before training: A uniform as PEFT draws it, B zero, a fresh head.

        Each tensor is drawn from a stream of its own name, in float32 on the CPU,
        so neither the number format nor the device nor another tensor changes it.
        """
        slots = [slot for group in (*self._block_slots, self._head_slots) for slot in group]
        deviation = float(getattr(self._peft_model.config, "initializer_range", 0.02))
        return {slot.name: self._initial(slot, deviation) for slot in slots}

    def _initial(self, slot: Slot, head_deviation: float) -> Tensor:
        like = slot.parameters[slot.attribute]
        values = torch.zeros(like.shape, dtype=torch.float32)
        generator = torch.Generator().manual_seed(stream(self._seed, "adapter", slot.name).torch_seed())
        if ".lora_A." in slot.name:
            bound = 1.0 / sqrt(like.shape[1])  # Kaiming uniform with a = sqrt(5)
            values.uniform_(-bound, bound, generator=generator)
        elif ".lora_B." not in slot.name and values.dim() == 2:
            values.normal_(std=head_deviation, generator=generator)
        trained = torch.float32 if self._dtype == torch.bfloat16 else self._dtype
        return values.to(device=self._device, dtype=trained)

    def client_names(self, cut_layer: int) -> tuple[str, ...]:
        """Return the names of what a client trains: the adapters of blocks 1 to ``cut_layer``."""
        return tuple(slot.name for slots in self._block_slots[:cut_layer] for slot in slots)

    def server_names(self, cut_layer: int) -> tuple[str, ...]:
        """Return the names of what the main server trains: later blocks, and a classifier's head."""
        later = (*self._block_slots[cut_layer:], self._head_slots)
        return tuple(slot.name for slots in later for slot in slots)

    def frozen_prefix(self, batch: Batch, last_block: int) -> Tensor:
        """Return what the blocks in front of the first adapter make of a batch, up to ``last_block``.

        Shape (batch_size, sequence_length, hidden_size). No adapter and no
        dropout has a say in it, and no gradient reaches it.
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
        return self._blocks_to(cut_layer, adapter, batch, dropout_seed, prefix, residual)

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
        hidden = activations.to(device=self._device, dtype=self._dtype)
        mask = self.attention_mask(batch)
        hidden = self.run_blocks(adapter, hidden, mask, cut_layer + 1, self.shape.num_layers, dropout_seed)
        return self._head(adapter, hidden, batch)

    def whole_outputs(
        self,
        adapter: Adapter,
        batch: Batch,
        dropout_seed: int | None = None,
        prefix: Tensor | None = None,
        residual: Adapter | None = None,
    ) -> Outputs:
        """Return losses and scores of the model without a cut; evaluate under ``torch.no_grad()``."""
        hidden = self._blocks_to(self.shape.num_layers, adapter, batch, dropout_seed, prefix, residual)
        return self._head(adapter, hidden, batch)

    def _blocks_to(
        self,
        last_block: int,
        adapter: Adapter,
        batch: Batch,
        dropout_seed: int | None,
        prefix: Tensor | None,
        residual: Adapter | None,
    ) -> Tensor:
        hidden = self.frozen_prefix(batch, last_block) if prefix is None else prefix
        first_block = min(self.num_frozen, last_block) + 1
        return self.run_blocks(
            adapter, hidden, self.attention_mask(batch), first_block, last_block, dropout_seed, residual
        )

    def embed(self, batch: Batch) -> Tensor:
        """Return what the first block sees, shape (batch_size, sequence_length, hidden_size)."""
        length = batch.input_ids.shape[1]
        if length > self.shape.max_positions:
            raise ValueError(f"a sequence of {length} tokens is too long; limit {self.shape.max_positions}")
        return self._body.embed(self._tensor(batch.input_ids))

    def attention_mask(self, batch: Batch) -> Tensor | None:
        """Return what is added to attention scores, broadcast to (batch_size, heads, length, length).

        Always spelled out for a causal model: without it eager attention would
        look into the future, silently. The lowest finite number rather than minus
        infinity, as transformers has it, keeps an example of padding alone finite.
        """
        causal = self._causal_mask(batch.input_ids.shape[1]) if self._body.is_causal else None
        if batch.attention_mask.all():
            return causal
        lowest = torch.finfo(self._dtype).min
        padding = np.where(batch.attention_mask, 0.0, lowest)[:, None, None, :]
        added = torch.from_numpy(padding).to(device=self._device, dtype=self._dtype)
        return added if causal is None else torch.minimum(added, causal)

    def _causal_mask(self, length: int) -> Tensor:
        mask = self._causal_masks.get(length)
        if mask is None:
            lowest = torch.finfo(self._dtype).min
            mask = torch.full((length, length), lowest, dtype=self._dtype, device=self._device)
            mask = self._causal_masks[length] = mask.triu(diagonal=1)[None, None]
        return mask

    def run_blocks(
        self,
        adapter: Adapter,
        hidden: Tensor,
        mask: Tensor | None,
        first_block: int,
        last_block: int,
        dropout_seed: int | None = None,
        residual: Adapter | None = None,
    ) -> Tensor:
        """Return what blocks ``first_block`` to ``last_block``, counted from 1, make of ``hidden``.

        Pure in its tensors, with no control flow that hangs on their values, so
        ``torch.func.vmap`` may stack the adapters and batches of several clients.
        """
        blocks = range(first_block - 1, last_block)
        for index in blocks:
            fill(self._block_slots[index], adapter)
            self._merge(index, residual)
        if dropout_seed is None or not self._dropouts.any_in(blocks):
            for index in blocks:
                hidden = self._body.run_block(self._body.blocks[index], hidden, mask)
            return hidden
        for index in blocks:
            with self._dropouts.on(index, dropout_seed):
                hidden = self._body.run_block(self._body.blocks[index], hidden, mask)
        return hidden

    def _merge(self, index: int, residual: Adapter | None) -> None:
        """Add to the frozen weights of a block what is merged into them, and nothing else."""
        if residual or index in self._merged:
            merge(self._base_slots[index], residual)
            (self._merged.add if residual else self._merged.discard)(index)

    def _head(self, adapter: Adapter, hidden: Tensor, batch: Batch) -> Outputs:
        """Return losses and scores from what the last block gave."""
        targets = self.targets(batch)
        logits = self.logits(adapter, hidden, self.last_positions(batch))
        return Outputs(losses_of(logits, targets), self.num_targets(batch), logits, targets)

    def logits(self, adapter: Adapter, hidden: Tensor, last: Tensor | None) -> Tensor:
        """Return the scores from what the last block gave; ``vmap`` may stack it as :meth:`run_blocks`."""
        fill(self._head_slots, adapter)
        return self._body.logits(hidden, last)

    def last_positions(self, batch: Batch) -> Tensor | None:
        """Return where each example ends, shape (batch_size,); None for a causal model, which needs none."""
        if self.shape.task == "causal_lm":
            return None
        return self._tensor(last_positions_of(batch))

    def targets(self, batch: Batch) -> Tensor:
        """Return what should win: :attr:`Outputs.targets`."""
        return self._tensor(targets_of(batch, self.shape.task))

    def num_targets(self, batch: Batch) -> Tensor:
        """Return how many losses each example carries, shape (batch_size,)."""
        return self._tensor(batch.num_targets)

    def _tensor(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.tensor(numbers, device=self._device)  # a copy: the array may be read-only

    def adapter_files(
        self, adapter: Adapter, residual: Adapter | None = None, labels: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Return an adapter in PEFT's own format, by file name; the same adapter gives the same bytes.

        What is merged into the base is a file beside it, by the names and in the
        shapes of the parameters of the ``PeftModel``, and a text says how to add it.
        ``labels`` are the classes in the order of a classifier's scores.
        """
        residual = residual or {}
        merged = {
            slot.name: slot.stored(residual[slot.residual_name])
            for slots in self._base_slots
            for slot in slots
            if slot.residual_name in residual
        }
        settings = self._peft_model.peft_config["default"].to_dict()
        return adapter_files(settings, {name: adapter[name] for name in self.names}, merged, labels)
