"""Any model of transformers in pieces, by its own code: what its blocks are called with is caught."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cosim.learning.families.body import Body, as_trained, chosen
from cosim.learning.shape import ModelShape

_REMEMBERED = 4
"""Shapes of mini-batches whose calls are kept."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


class HookedBody(Body):
    """A model whose blocks, and what lies in front of them and behind, are called as they are.

    The forward pass of the model itself runs with blocks that hand on what they are given: what comes
    out in front of the first one is the embedding, the arguments beside it (masks, rotary positions,
    ALiBi, distances) are those that each block is called with, and what is handed to the last one goes
    through norm and head.

    Attributes
    ----------
    keeps_calls
        Whether calls depend on nothing that is trained, so that equal shapes have equal calls.
    """

    def __init__(self, model: Any, shape: ModelShape) -> None:
        super().__init__(model, shape)
        self.is_causal = shape.names.is_causal
        self.blocks = model.get_submodule(shape.names.blocks)
        self.keeps_calls = True
        self._model, self._inner = model, model.get_submodule(shape.inner_name)
        self._index = {block: index for index, block in enumerate(self.blocks)}
        self._filler = 1 if model.config.pad_token_id == 0 else 0  # transformers warns of padding
        self._calls: list[tuple[Tensor | None, torch.Size, list[Call]]] = []
        for name in shape.names.classifier if shape.task == "classification" else ():
            model.get_submodule(name).register_forward_pre_hook(_as_trained)
        self._num_returned = self._returned()

    def _returned(self) -> int:
        """Return how many things a block returns, the first of them what it made; 0 if it is that alone."""
        found = []

        def look(module: Any, inputs: Any, output: Any) -> None:
            found.append(len(output) if isinstance(output, tuple) else 0)

        handle = self.blocks[0].register_forward_hook(look)
        with torch.no_grad():
            self._run(self._inner, torch.full((1, 1), self._filler, device=_device(self._model)), None)
        handle.remove()
        return found[0]

    def _run(self, model: nn.Module, ids: Tensor, mask: Tensor | None) -> Any:
        """Return what a model of transformers makes of some tokens."""
        return model(ids, attention_mask=mask, **({"use_cache": False} if self.is_causal else {}))

    def added(self, seen: NDArray[np.bool_], like: Tensor) -> Tensor:
        return torch.from_numpy(seen.astype(np.int64)).to(like.device)

    def embed(self, input_ids: Tensor) -> Tensor:
        found: list[Tensor] = []

        def catch(index: int, hidden: Tensor, call: Call) -> Tensor:
            if index == 0:
                found.append(hidden)
            return hidden

        with self._replaced(catch):
            self._run(self._inner, input_ids, torch.ones_like(input_ids))
        return found[0]

    def run_block(
        self, block: Any, hidden: Tensor, mask: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        others, names = self._calls_for(hidden, mask)[self._index[block]]
        out = block(hidden, *others, **names)
        return chosen(out[0] if isinstance(out, tuple) else out, places)

    def _calls_for(self, hidden: Tensor, mask: Tensor | None) -> list[Call]:
        """Return what each block is called with beside what it computes on."""
        for known, size, calls in self._calls:
            if known is mask and size == hidden.shape[:2]:
                return calls
        calls = []

        def catch(index: int, hidden: Tensor, call: Call) -> Tensor:
            calls.append(call)
            return hidden

        ids = torch.full(hidden.shape[:2], self._filler, device=hidden.device)
        with self._replaced(catch), torch.set_grad_enabled(not self.keeps_calls):
            self._run(self._inner, ids, mask)
        if self.keeps_calls:
            self._calls = [*self._calls[1 - _REMEMBERED :], (mask, hidden.shape[:2], calls)]
        return calls

    def scores(self, rows: Tensor) -> Tensor:
        last = len(self.blocks) - 1

        def catch(index: int, hidden: Tensor, call: Call) -> Tensor:
            return rows.unsqueeze(1) if index == last else hidden

        ids = torch.full((len(rows), 1), self._filler, device=rows.device)
        with self._replaced(catch):
            if self.shape.task == "causal_lm" or not self.is_causal:
                logits: Tensor = self._run(self._model, ids, torch.ones_like(ids)).logits
                return logits[:, 0] if self.is_causal else logits
            hidden = self._run(self._inner, ids, torch.ones_like(ids))[0]
            found: Tensor = self._model.score(hidden[:, 0])
        return found

    @contextmanager
    def _replaced(self, catch: Callable[[int, Tensor, Call], Tensor]) -> Iterator[None]:
        """Let each block, counted from 0, return what ``catch`` makes of its input and other arguments."""

        def stub(index: int) -> Callable[..., Any]:
            def forward(hidden: Tensor, *others: Any, **names: Any) -> Any:
                out = catch(index, hidden, (others, names))
                return (out, *[None] * (self._num_returned - 1)) if self._num_returned else out

            return forward

        for index, block in enumerate(self.blocks):
            block.__dict__["forward"] = stub(index)
        try:
            yield
        finally:
            for block in self.blocks:
                del block.__dict__["forward"]


def _as_trained(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (as_trained(inputs[0]), *inputs[1:])


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
