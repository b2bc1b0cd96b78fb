"""How the works of several clients are computed in one call: adapters stacked, the base shared.

A stack has one more dimension in front, one row for each work. What a group
hands on stays a stack, known by its rows, so that the next group of the same
clients takes it as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from cosim.learning.data.batch import Batch
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import losses_of
from cosim.learning.trainer import Trainer, deterministic, leaves_of, trained_of

if TYPE_CHECKING:
    from cosim.learning.lesson import Lesson
    from cosim.learning.work import Work

Value = TypeVar("Value", Tensor, dict[str, Tensor])


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One work's part of a stack, a tensor or tensors by name; the stack lives while a row of it does."""

    stack: Any
    index: int

    def plain(self) -> Any:
        """Return the part itself, still in the stack's memory and graph."""
        if isinstance(self.stack, dict):
            return {name: tensor[self.index] for name, tensor in self.stack.items()}
        return self.stack[self.index]


class StackedTrainer:
    """Computes works one by one as :class:`Trainer` does, and groups of them with stacked adapters.

    The model is its own: its activations are fused.
    """

    def __init__(self, lesson: "Lesson", model: SplitModel) -> None:
        model.fuse_activations()  # what is wide enough for a group is bound by memory, not by arithmetic
        self._lesson = lesson
        self._model = model
        self._trainer = Trainer(lesson, model)
        self._operations: dict[str, Callable[..., list[dict[str, Any]]]] = {
            "client_forward": self._client_forward,
            "server_exchange": self._server_exchange,
            "client_backward": self._client_backward,
            "whole_gradient": self._whole_gradient,
        }

    def together(self, works: Sequence["Work"], inputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the fields of each work's value; works differ in clients and batches only."""
        with deterministic(self._lesson.model.torch_device):
            return self._operations[works[0].operation](works, *zip(*inputs, strict=True))

    def __call__(self, work: "Work", inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a work's value."""
        if work.operation == "client_backward" and isinstance(inputs[2], Row):
            return self.together([work], [inputs])[0]
        return self._trainer(work, [_detached(one) for one in inputs])

    def plain(self, value: Any) -> Any:
        """Return a value that shares memory with no other client's."""
        if not isinstance(value, Row):
            return value
        return _apply(value.plain(), lambda tensor: tensor.detach().clone())

    def _client_forward(
        self, works: Sequence["Work"], adapters: Sequence[Any] = (), residuals: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        leaves = leaves_of(stacked(adapters), works[0].settings.get("frozen")) if adapters else {}
        cut_layer, batch = works[0].settings["cut_layer"], self._batch(works)
        hidden, first_block = self._begin(works, cut_layer)
        activations = self._blocks(leaves, hidden, batch, first_block, cut_layer, _shared(residuals))
        return _rows(len(works), activations=activations, leaves=leaves)

    def _server_exchange(
        self, works: Sequence["Work"], adapters: Sequence[Any], activations: Sequence[Any]
    ) -> list[dict[str, Any]]:
        arrived, cut_layer = stacked(activations).detach(), works[0].settings["cut_layer"]
        wanted = {}
        if self._lesson.client_trains(cut_layer):
            wanted = {"gradient": arrived.requires_grad_()}
        behind = self._trainer.behind_cut(stacked(adapters), cut_layer)
        return self._exchange(works, behind, arrived, cut_layer + 1, wanted)

    def _whole_gradient(
        self, works: Sequence["Work"], adapters: Sequence[Any], residuals: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        hidden, first_block = self._begin(works, self._model.shape.num_layers)
        return self._exchange(works, stacked(adapters), hidden, first_block, {}, _shared(residuals))

    def _begin(self, works: Sequence["Work"], last_block: int) -> tuple[Tensor, int]:
        """Return what the frozen blocks in front make of all mini-batches, and the block that is next."""
        prefixes = [self._trainer.prefix(work.settings, last_block) for work in works]
        known = [prefix for prefix in prefixes if prefix is not None]
        if not known:
            return _by_work(self._model.embed(self._batch(works)), len(works)), 1
        return torch.stack(known), min(self._model.num_frozen, last_block) + 1

    def _exchange(
        self,
        works: Sequence["Work"],
        adapter: Adapter,
        hidden: Tensor,
        first_block: int,
        wanted: dict[str, Tensor],
        residual: Adapter | None = None,
    ) -> list[dict[str, Any]]:
        """Return losses, and the gradients of ``wanted`` and of what is trained of the adapters."""
        model, num_works, batch = self._model, len(works), self._batch(works)
        leaves = leaves_of(adapter, works[0].settings.get("frozen"))
        hidden = self._blocks(leaves, hidden, batch, first_block, model.shape.num_layers, residual)
        last = model.last_positions(batch)
        last = None if last is None else _by_work(last, num_works)
        logits = vmap(model.logits, in_dims=(0, 0, None if last is None else 0))(leaves, hidden, last)
        sums = losses_of(logits.flatten(0, 1), model.targets(batch)).view(num_works, -1).sum(dim=1)
        losses = sums / model.num_targets(batch).view(num_works, -1).sum(dim=1).clamp(min=1)
        # No loss knows another client's numbers, so the gradient of their sum is each one's own.
        trained = trained_of(leaves)
        found = torch.autograd.grad(losses.sum(), [*wanted.values(), *trained.values()])
        gradients = dict(zip(wanted, found, strict=False))
        adapter_gradient = dict(zip(trained, found[len(wanted) :], strict=True))
        rows = _rows(num_works, **gradients, adapter_gradient=adapter_gradient)
        return [{"loss": loss, **row} for loss, row in zip(losses.tolist(), rows, strict=True)]

    def _client_backward(
        self,
        works: Sequence["Work"],
        adapters: Sequence[Any],
        optimizers: Sequence[Any],
        activations: Sequence[Any],
        leaves: Sequence[Any],
        gradients: Sequence[Any],
    ) -> list[dict[str, Any]]:
        if all(isinstance(one, Row) and one.stack is activations[0].stack for one in activations):
            rows = [one.index for one in activations]
            found = _walk_back(activations[0].stack, leaves[0].stack, rows, stacked(gradients))
        else:
            found = stacked(
                [_walk_back_alone(*one) for one in zip(activations, leaves, gradients, strict=True)]
            )
        return self._steps(works, stacked(adapters), stacked(optimizers), found)

    def _steps(
        self, works: Sequence["Work"], adapter: Adapter, optimizer: dict[str, Tensor], gradients: Adapter
    ) -> list[dict[str, Any]]:
        """Return each client's side after its step: in one go where every number steps by itself."""
        rule, count, settings = self._lesson.training.optimizer, len(works), works[0].settings
        counters = {name: tensor for name, tensor in optimizer.items() if "/" not in name}
        in_step = all(bool((tensor == tensor[0]).all()) for tensor in counters.values())
        if rule.is_elementwise and rule.max_grad_norm is None and in_step:
            state = optimizer | {name: tensor[0] for name, tensor in counters.items()}
            stepped = self._trainer.step(settings, adapter, state, gradients)
            for name in counters:
                stepped["optimizer"][name] = stepped["optimizer"][name].expand(count)
            return _rows(count, **stepped)
        return [
            self._trainer.step(
                settings, *(Row(stack, index).plain() for stack in (adapter, optimizer, gradients))
            )
            for index in range(count)
        ]

    def _blocks(
        self,
        leaves: Adapter,
        hidden: Tensor,
        batch: Batch,
        first_block: int,
        last_block: int,
        residual: Adapter | None = None,
    ) -> Tensor:
        model, num_works = self._model, len(hidden)
        mask = model.attention_mask(batch)
        is_shared = mask is None or len(mask) == 1  # every example sees the same
        if mask is not None and not is_shared:
            mask = _by_work(mask, num_works)

        def run(adapter: Adapter, one: Tensor, its_mask: Tensor | None) -> Tensor:
            return model.run_blocks(adapter, one, its_mask, first_block, last_block, None, residual)

        out: Tensor = vmap(run, in_dims=(0, 0, None if is_shared else 0))(leaves, hidden, mask)
        return out

    def _batch(self, works: Sequence["Work"]) -> Batch:
        """Return all mini-batches as one, work by work."""
        return self._lesson.tokens.train.batch(
            [row for work in works for row in work.settings["batch"]["rows"]]
        )


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
    found = torch.autograd.grad(activations, list(trained.values()), given, retain_graph=not is_whole)
    return {name: one if is_whole else one[rows] for name, one in zip(trained, found, strict=True)}


def _walk_back_alone(activations: Any, leaves: Any, gradient: Any) -> dict[str, Tensor]:
    if isinstance(activations, Row):
        found = _walk_back(activations.stack, leaves.stack, [activations.index], _detached(gradient)[None])
        return {name: one[0] for name, one in found.items()}
    trained = trained_of(leaves)
    found_alone = torch.autograd.grad(activations, list(trained.values()), _detached(gradient))
    return dict(zip(trained, found_alone, strict=True))


def _shared(residuals: Sequence[Any]) -> Adapter | None:
    """Return what is merged into the base of all works of a group."""
    if not residuals:
        return None
    first: Adapter = residuals[0]
    if any(one is not first for one in residuals):
        raise ValueError("works on bases that differ are not computed together")
    return first


def _by_work(tensor: Tensor, num_works: int) -> Tensor:
    """Return the examples of all works, one after the other, as one row for each work."""
    return tensor.view(num_works, -1, *tensor.shape[1:])


def _rows(count: int, **stacks: Any) -> list[dict[str, Any]]:
    return [{name: Row(stack, index) for name, stack in stacks.items()} for index in range(count)]


def _detached(value: Any) -> Any:
    return value.plain() if isinstance(value, Row) else value


def _apply(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    if isinstance(value, dict):
        return {name: function(tensor) for name, tensor in value.items()}
    return function(value)
