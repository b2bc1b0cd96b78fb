"""How each operation of the value plane is computed, in torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from math import exp, inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosim.learning.aggregator import Server
from cosim.learning.aggregator.sums import factor_of, mean_of_given, only, truncated, weighted_sum
from cosim.learning.codec import Codec, Sending
from cosim.learning.data.batch import Batch
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import Outputs
from cosim.learning.prefixes import Prefixes
from cosim.learning.regularizer import Regularizer
from cosim.learning.work import OPERATIONS
from cosim.parts import Part, make

if TYPE_CHECKING:  # what a lesson holds has keys of its own
    from cosim.learning.lesson import Lesson
    from cosim.learning.work import Told, Work

_SINGLE = "activations"  # activations and their gradient travel alone, under one name
_MOST_LOSS = 709.0  # e to a little more is beyond floats


class Trainer:
    """Computes works on one frozen base, however many clients there are.

    Every operation is a pure function of its inputs and settings: what it is
    given stays as it was, and no global random state is read or left changed.
    """

    def __init__(self, lesson: "Lesson", model: SplitModel) -> None:
        self._lesson = lesson
        self._model = model
        self._slab = Slab()
        self._parts: dict[tuple[type[Part], str], Part] = {}
        self._train_prefixes, self._test_prefixes = Prefixes(), Prefixes()
        self._operations: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self._start,
            "client_forward": self._client_forward,
            "server_exchange": self._server_exchange,
            "client_backward": self._client_backward,
            "transmit": self._transmit,
            "whole_gradient": self._whole_gradient,
            "update": self._update,
            "select": self._select,
            "aggregate": self._aggregate,
            "distribute": self._distribute,
            "merge": self._merge,
            "part": self._part_of,
            "evaluate": self._evaluate,
            "mean_evaluation": self._mean_evaluation,
            "export": self._export,
        }

    def __call__(self, work: "Work", inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a work's value."""
        with deterministic(self._lesson.model.torch_device):
            return self._operation(work.operation)(work.settings, *inputs)

    def _operation(self, name: str) -> Callable[..., dict[str, Any]]:
        """Return what computes an operation: a method here, or a function of the module it is of."""
        if name not in self._operations:
            self._operations[name] = getattr(import_module(OPERATIONS[name]), f"compute_{name}")
        return self._operations[name]

    def _start(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        whole = self._model.initial_adapter()
        adapter = whole if settings["part"] == "whole" else self._part_of(settings, whole)["adapter"]
        return {"adapter": adapter, "optimizer": self._lesson.training.optimizer.start(adapter)}

    def _client_forward(
        self, settings: Mapping[str, Any], adapter: Adapter | None = None, residual: Adapter | None = None
    ) -> dict[str, Any]:
        leaves, cut_layer = leaves_of(adapter or {}, settings.get("frozen")), settings["cut_layer"]
        prefix = self.prefix(settings, cut_layer)
        activations = self._model.client_forward(
            leaves, self._batch(settings), cut_layer, settings["dropout"], prefix, residual
        )
        return {"activations": activations, "leaves": leaves}

    def _server_exchange(
        self, settings: Mapping[str, Any], adapter: Adapter, activations: Tensor
    ) -> dict[str, Any]:
        leaves = leaves_of(self.behind_cut(adapter, settings["cut_layer"]))
        arrived = activations.detach()
        wanted = {}
        if self._lesson.client_trains(settings["cut_layer"]):
            wanted = {"gradient": arrived.requires_grad_()}
        outputs = self._model.server_outputs(
            leaves, arrived, self._batch(settings), settings["cut_layer"], settings["dropout"]
        )
        loss = _mean_loss(outputs)
        found = torch.autograd.grad(loss, [*wanted.values(), *leaves.values()])
        adapter_gradient = dict(zip(leaves, found[len(wanted) :], strict=True))
        return {
            "loss": loss.item(),
            **dict(zip(wanted, found, strict=False)),
            "adapter_gradient": self._slab.put(adapter_gradient),
        }

    def _client_backward(
        self,
        settings: Mapping[str, Any],
        adapter: Adapter,
        optimizer: dict[str, Tensor],
        activations: Tensor,
        leaves: Adapter,
        gradient: Tensor,
    ) -> dict[str, Any]:
        trained = trained_of(leaves)
        gradients = torch.autograd.grad(activations, list(trained.values()), gradient)
        return self.step(settings, adapter, optimizer, dict(zip(trained, gradients, strict=True)))

    def _transmit(
        self, settings: Mapping[str, Any], tensors: Adapter | Tensor, *given: Adapter
    ) -> dict[str, Any]:
        """Return what is received, and with it whatever the sender holds back or measures."""
        codec: Codec = self._part(Codec, settings["codec"])
        is_single = isinstance(tensors, Tensor)
        received = codec.transmit(
            Sending(
                {_SINGLE: tensors} if isinstance(tensors, Tensor) else tensors,
                keep_ratio=settings["keep_ratio"],
                seed=settings["seed"],
                **dict(zip(settings["given"], given, strict=True)),
            )
        )
        value: dict[str, Any] = {**received.figures, "bits": received.bits}
        value["tensors"] = received.tensors[_SINGLE] if is_single else received.tensors
        for name, kept in (("memory", received.memory), ("mask", received.mask)):
            if kept is not None:
                value[name] = self._slab.put(kept)
        return value

    def _whole_gradient(
        self, settings: Mapping[str, Any], adapter: Adapter, residual: Adapter | None = None
    ) -> dict[str, Any]:
        leaves = leaves_of(adapter, settings.get("frozen"))
        prefix = self.prefix(settings, self._model.shape.num_layers)
        outputs = self._model.whole_outputs(
            leaves, self._batch(settings), settings["dropout"], prefix, residual
        )
        loss, trained = _mean_loss(outputs), trained_of(leaves)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        return {"loss": loss.item(), "adapter_gradient": dict(zip(trained, gradients, strict=True))}

    def _update(
        self,
        settings: Mapping[str, Any],
        adapter: Adapter,
        optimizer: dict[str, Tensor],
        *gradients: Adapter,
    ) -> dict[str, Any]:
        gradient = mean_of_given(gradients, settings["weights"])
        if "regularizer" in settings:
            gradient = self._part(Regularizer, settings["regularizer"]).added(adapter, gradient)
        return self.step(settings, adapter, optimizer, gradient)

    def _select(self, settings: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
        return {"adapter": only(adapter, set(settings["factors"]))}

    def _aggregate(self, settings: Mapping[str, Any], *inputs: Adapter) -> dict[str, Any]:
        """Return the average, and what is merged into the base; told no aggregator, the mean of all."""
        weights = settings["weights"]
        if "aggregator" not in settings:
            return {"adapter": weighted_sum(inputs, weights)}
        count = len(weights)
        uploads, rest = inputs[:count], inputs[count:]
        masks = rest[:count] if settings["masked"] else None
        adapter, *residual = rest if masks is None else rest[count:]
        server = Server(
            adapter=adapter,
            residual=residual[0] if residual else {},
            scaling=settings["scaling"],
            round=settings["round"],
            seed=settings["seed"],
            masks=masks,
        )
        average = self._lesson.aggregator.aggregate(uploads, weights, server)
        return {"adapter": average.adapter, "residual": average.residual}

    def _distribute(
        self, settings: Mapping[str, Any], adapter: Adapter, own: Adapter | None = None
    ) -> dict[str, Any]:
        """Return what a client starts a round with, of its own what is not shared."""
        start = truncated(adapter, settings["rank"])
        if own is not None:
            start = own | only(start, set(settings["shared"]))
        fields = {"adapter": self._slab.put(start)}
        if settings["optimizer"] is not None:
            trained = only(start, set(settings["trained"]))
            fields["optimizer"] = self._lesson.training.optimizer.start(trained)
        return fields

    def _merge(self, settings: Mapping[str, Any], *inputs: Adapter) -> dict[str, Any]:
        """Return every block averaged: a client's own where it has one, for others the server's."""
        *uploads, server = inputs
        merged: Adapter = {}
        weighted = list(zip(uploads, settings["weights"], strict=True))
        for name in self._model.names:
            terms = [(one[name], weight) for one, weight in weighted if name in one]
            if not terms:
                merged[name] = server[name]
                continue
            others = settings["absent"] + sum(weight for one, weight in weighted if name not in one)
            if others > 0.0:
                terms.append((server[name], others))
            merged |= weighted_sum([{name: tensor} for tensor, _ in terms], [one for _, one in terms])
        return {"adapter": self._slab.put(merged)}

    def _part_of(self, settings: Mapping[str, Any], whole: Adapter) -> dict[str, Any]:
        """Return what of a whole adapter is on one side of a cut."""
        names = {"client": self._model.client_names, "server": self._model.server_names}[settings["part"]]
        return {"adapter": {name: whole[name] for name in names(settings["cut_layer"])}}

    def behind_cut(self, adapter: Adapter, cut_layer: int) -> Adapter:
        """Return what of the main server's adapter works on a mini-batch that was cut there."""
        names = set(self._model.server_names(cut_layer))
        return {name: tensor for name, tensor in adapter.items() if name in names}

    def _evaluate(self, settings: Mapping[str, Any], *adapters: Adapter) -> dict[str, Any]:
        """Return mean loss over the held-out targets, nats, its perplexity, and the share of targets hit."""
        whole, residual = _with_residual(settings, adapters)
        loss_sum, num_targets, num_correct = 0.0, 0, 0
        test, size = self._lesson.tokens.test, settings["batch_size"]
        with torch.no_grad():
            for first in range(0, len(test), size):
                batch = test.batch(list(range(first, min(first + size, len(test)))))
                depth = self._model.shape.num_layers
                prefix = self._prefix(self._test_prefixes, (first, size), batch, depth)
                outputs = self._model.whole_outputs(whole, batch, None, prefix, residual)
                loss_sum += float(outputs.loss_sum.double().sum())
                num_targets += int(outputs.num_targets.sum())
                num_correct += int(outputs.num_correct.sum())
        return _evaluation(loss_sum / num_targets, num_correct / num_targets)

    def _mean_evaluation(self, settings: Mapping[str, Any], *figures: float) -> dict[str, Any]:
        """Return the weighted mean over models, given loss and accuracy of each."""
        losses, accuracies = (
            [weight * figure for weight, figure in zip(settings["weights"], figures[first::2], strict=True)]
            for first in range(2)
        )
        return _evaluation(sum(losses), sum(accuracies))

    def _export(self, settings: Mapping[str, Any], *adapters: Adapter) -> dict[str, Any]:
        return {
            "files": self._model.adapter_files(
                *_with_residual(settings, adapters), settings.get("labels", ())
            )
        }

    def step(
        self,
        settings: Mapping[str, Any],
        adapter: Adapter,
        optimizer: dict[str, Tensor],
        gradients: Adapter,
    ) -> dict[str, Any]:
        """Return the side after one step of the optimiser on what has a gradient."""
        trained = {name: adapter[name] for name in gradients}
        stepped, optimizer = self._lesson.training.optimizer.step(
            trained, gradients, optimizer, settings["step"], settings["num_steps"]
        )
        return {"adapter": adapter | self._slab.put(stepped), "optimizer": self._slab.put(optimizer)}

    def _part(self, base: Any, told: "Told") -> Any:
        """Return the part a work is told of, made once."""
        key = base, repr(told)
        if key not in self._parts:
            self._parts[key] = make(base, told.settings)
        return self._parts[key]

    def prefix(self, settings: Mapping[str, Any], last_block: int) -> Tensor | None:
        """Return what the frozen blocks in front make of a mini-batch; None where there are none."""
        rows = settings["batch"]["rows"]
        return self._prefix(self._train_prefixes, tuple(rows), self._batch(settings), last_block)

    def _prefix(self, held: Prefixes, name: tuple[int, ...], batch: Batch, last_block: int) -> Tensor | None:
        depth = min(self._model.num_frozen, last_block)
        if depth == 0:
            return None
        return held.get((depth, name), lambda: self._model.frozen_prefix(batch, depth))

    def _batch(self, settings: Mapping[str, Any]) -> Batch:
        return self._lesson.tokens.train.batch(settings["batch"]["rows"])


class Slab:
    """Memory for values that outlive a pass, apart from the large tensors that do not.

    A state is a handful of small tensors. Left where they were made, among the
    activations of a pass, they keep the allocator from using that memory again,
    and a run with 200 clients takes twice the memory of its values.
    """

    NUM_BYTES = 1 << 23

    def __init__(self) -> None:
        self._slab = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def put(self, tensors: Adapter) -> Adapter:
        """Return the same numbers, side by side in a slab, which lives as long as any of them."""
        return {name: self._copy(tensor) for name, tensor in tensors.items()}

    def _copy(self, tensor: Tensor) -> Tensor:
        num_bytes = -(-tensor.numel() * tensor.element_size() // 64) * 64
        if self._used + num_bytes > len(self._slab) or self._slab.device != tensor.device:
            self._slab = torch.empty(max(num_bytes, self.NUM_BYTES), dtype=torch.uint8, device=tensor.device)
            self._used = 0
        # not a view: views count their versions together, and autograd would see each copy as a change
        start = self._used // tensor.element_size()
        copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        copy.set_(self._slab.untyped_storage(), start, tensor.shape, tensor.contiguous().stride())
        self._used += num_bytes
        return copy.copy_(tensor)


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


def _joined(adapters: Sequence[Adapter]) -> Adapter:
    """Return one adapter from parts that have no tensor in common."""
    return {name: tensor for adapter in adapters for name, tensor in adapter.items()}


def _mean_loss(outputs: Outputs) -> Tensor:
    """Return the mean loss over all targets of a batch; a batch without any has loss 0."""
    return outputs.loss_sum.sum() / outputs.num_targets.sum().clamp(min=1)


def _with_residual(
    settings: Mapping[str, Any], adapters: Sequence[Adapter]
) -> tuple[Adapter, Adapter | None]:
    """Return one adapter from its parts, and what is merged into the base where it comes last."""
    if settings.get("residual"):
        return _joined(adapters[:-1]), adapters[-1]
    return _joined(adapters), None


def _evaluation(loss: float, accuracy: float) -> dict[str, float]:
    return {"loss": loss, "perplexity": inf if loss > _MOST_LOSS else exp(loss), "accuracy": accuracy}
