"""How the nodes of several clients are computed in one call: adapters stacked, the base shared.

A stack has one more dimension in front, one row for each node. What a group
hands on stays a stack, known by its rows, so that the next group of the same
clients takes it as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from cosim.graph.node import Node
from cosim.learning.data.batch import Batch
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.learner import Learner, deterministic, gradients_along, leaves_of, trained_of
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import losses_of

if TYPE_CHECKING:
    from cosim.learning.task import Task

Value = TypeVar("Value", Tensor, dict[str, Tensor])

_DROPOUT = "LoRA dropout is drawn from a stream of each client's own"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One node's part of a stack, a tensor or tensors by name; the stack lives while a row of it does."""

    stack: Any
    index: int

    def plain(self) -> Any:
        """Return the part itself, still in the stack's memory and graph."""
        if isinstance(self.stack, dict):
            return {name: tensor[self.index] for name, tensor in self.stack.items()}
        return self.stack[self.index]


class StackedLearner(Learner):
    """Computes nodes one by one as :class:`Learner` does, and groups of them with stacked adapters.

    A value must not depend on who shares the call, so nothing is left out of a group's tensors
    that labels and padding of one client alone would let go.
    """

    def __init__(self, task: "Task", model: SplitModel) -> None:
        model.attend_by(attend_stepwise)
        super().__init__(task, model)

    def batch(self, params: Mapping[str, Any]) -> Batch:
        """Return the mini-batch that a node names by its rows, of full length as all of a group."""
        return self._task.tokens.train.batch(params["batch"]["rows"])

    def compute_together(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the fields of each node's value; nodes differ in clients and batches only."""
        body = nodes[0].operation.batch_body
        if body is None:
            raise ValueError(f"{nodes[0].operation} is not computed in groups")
        with deterministic(self._task.model.torch_device):
            return body(self, nodes, *zip(*inputs, strict=True))

    def compute(self, node: Node, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a node's value; one that goes back through a stack goes back there."""
        field = node.operation.goes_back_through
        through = [value for ref, value in zip(node.inputs, inputs, strict=True) if ref.field == field]
        if any(isinstance(one, Row) for one in through):
            return self.compute_together([node], [inputs])[0]
        return super().compute(node, [_detached(one) for one in inputs])

    def why_alone(self, node: Node) -> str | None:
        """Return why a node cannot be in a group, None if it can."""
        return _DROPOUT if node.params.get("dropout") is not None else None

    def plain(self, value: Any) -> Any:
        """Return a value that shares memory with no other client's."""
        if not isinstance(value, Row):
            return value
        return _apply(value.plain(), lambda tensor: tensor.detach().clone())

    def begin(self, nodes: Sequence[Node], last_block: int) -> tuple[Tensor, int]:
        """Return what the frozen blocks in front make of all mini-batches, and the block that is next.

        Where the embedding is trained, these are the tokens, and block 0.
        """
        if self.model.trains_embedding:
            return _by_node(self.model.token_ids(self.joint_batch(nodes)), len(nodes)), 0
        prefixes = [self.prefix(node.params, last_block) for node in nodes]
        known = [prefix for prefix in prefixes if prefix is not None]
        if not known:
            return _by_node(self.model.embed(self.joint_batch(nodes)), len(nodes)), 1
        return torch.stack(known), min(self.model.num_frozen, last_block) + 1

    def losses_and_gradients(
        self,
        nodes: Sequence[Node],
        adapter: Adapter,
        hidden: Tensor,
        first_block: int,
        wanted: dict[str, Tensor],
        residual: Adapter | None = None,
    ) -> list[dict[str, Any]]:
        """Return losses, and the gradients of ``wanted`` and of what is trained of the adapters.

        Parameters
        ----------
        adapter, hidden
            Stacks: of adapters, and of what block ``first_block`` sees.
        residual
            What is merged into the base of all.
        """
        model, num_nodes, batch = self.model, len(nodes), self.joint_batch(nodes)
        leaves = leaves_of(adapter, nodes[0].params.get("frozen"))
        hidden = self.blocks(leaves, hidden, batch, first_block, model.shape.num_layers, residual)
        scored = model.scored(batch, every=True)
        if model.shape.task == "classification":
            hidden = hidden.flatten(0, 2).index_select(0, model.tensor(scored.places))
        logits = vmap(model.logits)(leaves, hidden.reshape(num_nodes, -1, model.shape.hidden_size))
        each = losses_of(logits.flatten(0, 1), model.tensor(scored.targets))
        sums = each.view(num_nodes, -1).sum(dim=1)
        losses = sums / model.tensor(batch.num_targets).view(num_nodes, -1).sum(dim=1).clamp(min=1)
        # No loss knows another client's numbers, so the gradient of their sum is each one's own.
        trained = trained_of(leaves)
        found = torch.autograd.grad(losses.sum(), [*wanted.values(), *trained.values()])
        gradients = dict(zip(wanted, found, strict=False))
        adapter_gradient = dict(zip(trained, found[len(wanted) :], strict=True))
        given = rows(num_nodes, **gradients, adapter_gradient=adapter_gradient)
        return [{"loss": loss, **row} for loss, row in zip(losses.tolist(), given, strict=True)]

    def steps(
        self, nodes: Sequence[Node], adapter: Adapter, optimizer: dict[str, Tensor], gradients: Adapter
    ) -> list[dict[str, Any]]:
        """Return each client's side after its step: in one go where every number steps by itself."""
        rule, count, params = self.optimizer, len(nodes), nodes[0].params
        counters = {name: tensor for name, tensor in optimizer.items() if "/" not in name}
        in_step = all(bool((tensor == tensor[0]).all()) for tensor in counters.values())
        if rule.is_elementwise and rule.max_grad_norm is None and in_step:
            state = optimizer | {name: tensor[0] for name, tensor in counters.items()}
            stepped = self.step(params, adapter, state, gradients)
            for name in counters:
                stepped["optimizer"][name] = stepped["optimizer"][name].expand(count)
            return rows(count, **stepped)
        return [
            self.step(params, *(Row(stack, index).plain() for stack in (adapter, optimizer, gradients)))
            for index in range(count)
        ]

    def blocks(
        self,
        leaves: Adapter,
        hidden: Tensor,
        batch: Batch,
        first_block: int,
        last_block: int,
        residual: Adapter | None = None,
    ) -> Tensor:
        """Return what some blocks make of a stack; arguments as for ``SplitModel.run_blocks``."""
        model, num_nodes = self.model, len(hidden)
        mask = model.attention_mask(batch)
        is_shared = mask is None or len(mask) == 1  # every example sees the same
        if mask is not None and not is_shared:
            mask = _by_node(mask, num_nodes)

        def run(adapter: Adapter, one: Tensor, its_mask: Tensor | None) -> Tensor:
            return model.run_blocks(adapter, one, its_mask, first_block, last_block, None, residual)

        out: Tensor = vmap(run, in_dims=(0, 0, None if is_shared else 0))(leaves, hidden, mask)
        return out


def stacked(values: Sequence[Any]) -> Any:
    """Return values, tensors or tensors by name, as one stack; nothing is copied if they are one already."""
    first = values[0]
    if not isinstance(first, Row) and all(one is first for one in values):
        return _apply(first, lambda tensor: tensor.expand(len(values), *tensor.shape))
    pieces = list(_pieces(values))
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], dict):
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    return torch.cat(pieces)


def _pieces(values: Sequence[Any]) -> Iterator[Any]:
    """Return stacks that make up one of all values: neighbours that are of one stack, others alone."""
    begin = 0
    while begin < len(values):
        end, one = begin + 1, values[begin]
        if not isinstance(one, Row):
            yield _apply(one, lambda tensor: tensor.unsqueeze(0))
        else:
            while end < len(values) and _follows(values[end - 1], values[end]):
                end += 1
            rows = slice(one.index, one.index + end - begin)
            yield _apply(one.stack, itemgetter(rows))
        begin = end


def _follows(left: Row, right: Any) -> bool:
    return isinstance(right, Row) and right.stack is left.stack and right.index == left.index + 1


def gradients_of(
    activations: Sequence[Any], leaves: Sequence[Any], gradients: Sequence[Any]
) -> dict[str, Tensor]:
    """Return a stack of the gradients of each client's leaves; clients of one graph walk it once."""
    if all(isinstance(one, Row) and one.stack is activations[0].stack for one in activations):
        indices = [one.index for one in activations]
        return _walk_back(activations[0].stack, leaves[0].stack, indices, stacked(gradients))
    alone = [_walk_back_alone(*one) for one in zip(activations, leaves, gradients, strict=True)]
    found: dict[str, Tensor] = stacked(alone)
    return found


def _walk_back(
    activations: Tensor, leaves: Adapter, rows: Sequence[int], gradients: Tensor
) -> dict[str, Tensor]:
    """Return gradients of rows of the leaves; the graph is freed if no row is left for later."""
    is_whole = list(rows) == list(range(len(activations)))
    given = gradients
    if not is_whole:
        given = torch.zeros_like(activations)
        given[rows] = gradients
    trained = trained_of(leaves)
    found = gradients_along(activations, given, list(trained.values()), retain_graph=not is_whole)
    return {name: one if is_whole else one[rows] for name, one in zip(trained, found, strict=True)}


def _walk_back_alone(activations: Any, leaves: Any, gradient: Any) -> dict[str, Tensor]:
    if isinstance(activations, Row):
        found = _walk_back(activations.stack, leaves.stack, [activations.index], _detached(gradient)[None])
        return {name: one[0] for name, one in found.items()}
    trained = trained_of(leaves)
    found_alone = gradients_along(activations, _detached(gradient), list(trained.values()))
    return dict(zip(trained, found_alone, strict=True))


def shared(residuals: Sequence[Any]) -> Adapter | None:
    """Return what is merged into the base of all nodes of a group."""
    if not residuals:
        return None
    first: Adapter = residuals[0]
    if any(one is not first for one in residuals):
        raise ValueError("nodes on bases that differ are not computed together")
    return first


def _by_node(tensor: Tensor, num_nodes: int) -> Tensor:
    """Return the examples of all nodes, one after the other, as one row for each node."""
    return tensor.view(num_nodes, -1, *tensor.shape[1:])


def rows(count: int, **stacks: Any) -> list[dict[str, Any]]:
    """Return the fields of each node, as rows of stacks."""
    return [{name: Row(stack, index) for name, stack in stacks.items()} for index in range(count)]


def _detached(value: Any) -> Any:
    return value.plain() if isinstance(value, Row) else value


def _apply(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    if isinstance(value, dict):
        return {name: function(tensor) for name, tensor in value.items()}
    return function(value)
