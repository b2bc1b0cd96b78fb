"""The learner: what the operations of a training compute with, in torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from cosim.graph.node import Node, Params
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.sums import factor_of
from cosim.learning.data.batch import Batch
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.narrowing import narrow_model
from cosim.learning.optimizer import Optimizer
from cosim.learning.outputs import Outputs
from cosim.learning.prefixes import Prefixes
from cosim.parts import Part, make

if TYPE_CHECKING:  # what a task holds has keys of its own
    from cosim.learning.task import Task


class Learner:
    """One frozen base, however many clients there are, and what operations ask of it.

    Every operation is a pure function of its inputs and parameters: what it is
    given stays as it was, and no global random state is read or left changed.

    Attributes
    ----------
    model
        The base with its LoRA slots.
    """

    def __init__(self, task: "Task", model: SplitModel) -> None:
        self.model = model
        self._task = task
        self._slab = Slab()
        self._parts: dict[tuple[type[Part], str], Part] = {}
        self._train_prefixes, self._test_prefixes = Prefixes(), Prefixes()
        self._narrow: tuple[list[list[int]], SplitModel] | None = None

    def compute(self, node: Node, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a node's value."""
        with deterministic(self._task.model.torch_device):
            return node.operation.body(self, node.params, *inputs)

    def narrowed(self, units: Adapter) -> SplitModel:
        """Return the model of which only these units remain; the last one made is kept."""
        kept = [one.tolist() for one in units.values()]
        if self._narrow is None or self._narrow[0] != kept:
            self._narrow = kept, narrow_model(self.model, units)
        return self._narrow[1]

    @property
    def optimizer(self) -> Optimizer:
        """The rule of every step."""
        return self._task.training.optimizer

    @property
    def aggregator(self) -> Aggregator:
        """What makes one adapter of several."""
        return self._task.aggregator

    def client_trains(self, cut_layer: int) -> bool:
        """Return whether any of the blocks kept on a client has an adapter."""
        return self._task.client_trains(cut_layer)

    def keep(self, tensors: Mapping[str, Tensor]) -> Adapter:
        """Return the same numbers in memory for values that outlive a pass."""
        return self._slab.put(tensors)

    def part_of(self, whole: Adapter, part: str, cut_layer: int) -> Adapter:
        """Return what of a whole adapter is on one side of a cut, ``client`` or ``server``."""
        names = self.model.client_names if part == "client" else self.model.server_names
        return {name: whole[name] for name in names(cut_layer)}

    def behind_cut(self, adapter: Adapter, cut_layer: int) -> Adapter:
        """Return what of the main server's adapter works on a mini-batch that was cut there."""
        names = set(self.model.server_names(cut_layer))
        return {name: tensor for name, tensor in adapter.items() if name in names}

    def step(
        self,
        params: Mapping[str, Any],
        adapter: Adapter,
        optimizer: dict[str, Tensor],
        gradients: Adapter,
    ) -> dict[str, Any]:
        """Return adapter and optimiser after one step on what has a gradient."""
        trained = {name: adapter[name] for name in gradients}
        stepped, optimizer = self.optimizer.step(
            trained, gradients, optimizer, params["step"], params["num_steps"], self.keep
        )
        return {"adapter": adapter | stepped, "optimizer": optimizer}

    def made(self, base: type[Part], params: Params) -> Any:
        """Return the part of a family that these parameters describe, made once."""
        key = base, repr(params)
        if key not in self._parts:
            self._parts[key] = make(base, params.entries)
        return self._parts[key]

    def batch(self, params: Mapping[str, Any]) -> Batch:
        """Return the mini-batch that a node names by its rows, as long as its longest row.

        A device of the scenario computes the padding too, and is charged for it; no number
        that counts depends on it.
        """
        return self._task.tokens.train.batch(params["batch"]["rows"]).trimmed()

    def sent(self, activations: Tensor, batch: Batch) -> Tensor:
        """Return activations as they are sent: of full length, and zero where there is padding."""
        missing = self._task.data.sequence_length - activations.shape[1]
        if not batch.attention_mask.all():
            padding = torch.from_numpy(~batch.attention_mask).to(activations.device)
            activations = activations.masked_fill(padding[..., None], 0.0)
        return functional.pad(activations, (0, 0, 0, missing)) if missing else activations

    def joint_batch(self, nodes: Sequence[Node]) -> Batch:
        """Return the mini-batches of several nodes as one, node by node."""
        return self._task.tokens.train.batch([row for node in nodes for row in node.params["batch"]["rows"]])

    def held_out(
        self, batch_size: int, rows: Sequence[int] | None = None
    ) -> Iterator[tuple[Batch, Tensor | None]]:
        """Return held-out examples in mini-batches, each with what frozen blocks make of it."""
        test, depth = self._task.tokens.test, self.model.shape.num_layers
        rows = range(len(test)) if rows is None else rows
        for first in range(0, len(rows), batch_size):
            chosen = tuple(rows[first : first + batch_size])
            batch = test.batch(chosen).trimmed()
            yield batch, self._prefix(self._test_prefixes, chosen, batch, depth)

    def prefix(self, params: Mapping[str, Any], last_block: int) -> Tensor | None:
        """Return what the frozen blocks in front make of a mini-batch; None where there are none."""
        rows = params["batch"]["rows"]
        return self._prefix(self._train_prefixes, tuple(rows), self.batch(params), last_block)

    def _prefix(self, held: Prefixes, name: tuple[int, ...], batch: Batch, last_block: int) -> Tensor | None:
        depth = min(self.model.num_frozen, last_block)
        if depth == 0:
            return None
        return held.get((depth, name), lambda: self.model.frozen_prefix(batch, depth))


class Slab:
    """Memory for values that outlive a pass, apart from the large tensors that do not.

    A state is a handful of small tensors. Left where they were made, among the
    activations of a pass, they keep the allocator from using that memory again,
    and a run with 200 clients takes twice the memory of its values.
    """

    NUM_BYTES = 1 << 23

    def __init__(self) -> None:
        self._slab = torch.empty(0, dtype=torch.uint8)
        self._typed: dict[torch.dtype, Tensor] = {}  # the slab as numbers of a format
        self._used = 0

    def put(self, tensors: Mapping[str, Tensor]) -> Adapter:
        """Return the same numbers, side by side in a slab, which lives as long as any of them."""
        with torch.no_grad():
            given = list(tensors.values())
            copies = [self._room(one) for one in given]
            if copies:
                torch._foreach_copy_(copies, given)
        return dict(zip(tensors, copies, strict=True))

    def _room(self, tensor: Tensor) -> Tensor:
        """Return memory for the numbers of a tensor."""
        size, dtype = tensor.element_size(), tensor.dtype
        num_bytes = -(-tensor.numel() * size // 64) * 64
        if self._used + num_bytes > self._slab.numel() or self._slab.device != tensor.device:
            self._slab = torch.empty(max(num_bytes, self.NUM_BYTES), dtype=torch.uint8, device=tensor.device)
            self._typed, self._used = {}, 0
        if dtype not in self._typed:
            self._typed[dtype] = self._slab.view(dtype)
        strides = tensor.contiguous().stride()
        room = self._typed[dtype].as_strided(tensor.shape, strides, self._used // size)
        self._used += num_bytes
        return room.data  # views count their versions together, and autograd would see each copy as a change


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Let torch use only such kernels for a while as give the same bits every time; the CPU's all do."""
    if not device.startswith("cuda"):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    kernels: Any = torch.utils.deterministic
    filled = kernels.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    kernels.fill_uninitialized_memory = False  # nothing here reads what it did not write
    try:
        yield
    finally:
        kernels.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before, warn_only=warned)


def leaves_of(adapter: Adapter, frozen: str | None = None) -> Adapter:
    """Return the same numbers as fresh leaves, so that every graph has its own; one factor may be frozen."""
    return {
        name: tensor.detach().requires_grad_(frozen is None or factor_of(name) != frozen)
        for name, tensor in adapter.items()
    }


def trained_of(leaves: Adapter) -> Adapter:
    """Return the leaves that take a gradient."""
    return {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}


def gradients_along(
    outputs: Tensor, gradient: Tensor, leaves: Sequence[Tensor], *, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradients of leaves from that of the outputs.

    Given ``grad_outputs``, torch loads its symbolic shapes and sympy to compare two shapes.
    """
    along = (outputs * gradient).sum()  # its gradient by the outputs is the given one, to the bit
    return torch.autograd.grad(along, leaves, retain_graph=retain_graph)


def mean_loss(outputs: Outputs) -> Tensor:
    """Return the mean loss over all targets of a batch; a batch without any has loss 0."""
    return outputs.loss_sum.sum() / outputs.num_targets.sum().clamp(min=1)
