"""Any model of transformers in pieces, by its own code: what its blocks are called with is caught."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cosim.learning.families.body import Body, as_trained, chosen
from cosim.learning.layers import Patches
from cosim.learning.shape import ModelShape

_REMEMBERED = 4
"""Shapes of mini-batches whose calls are kept."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


class _Caught(Exception):
    """What was wanted of a forward pass is known, and the rest of it is not needed."""


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
        # a token that is no padding, as transformers warns of that
        self._filler = 1 if getattr(model.config, "pad_token_id", None) == 0 else 0
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
            self._run(self._inner, self._blank(1, 1, _device(self._model)), None)
        handle.remove()
        return found[0]

    def _run(self, model: nn.Module, ids: Tensor, mask: Tensor | None) -> Any:
        """Return what a model of transformers makes of some tokens."""
        if self.shape.patches is not None:
            return model(pixel_values=_pixels(ids, self.shape.patches))
        return model(ids, attention_mask=mask, **({"use_cache": False} if self.is_causal else {}))

    def _blank(self, batch_size: int, length: int, device: torch.device) -> Tensor:
        """Return an input that says nothing."""
        if (patches := self.shape.patches) is not None:
            return torch.zeros(batch_size, patches.count + 1, patches.numbers, device=device)
        return torch.full((batch_size, length), self._filler, device=device)

    def added(self, seen: NDArray[np.bool_], like: Tensor) -> Tensor:
        return torch.from_numpy(seen.astype(np.int64)).to(like.device)

    def embed(self, input_ids: Tensor) -> Tensor:
        found: list[Tensor] = []

        def catch(index: int, hidden: Tensor, call: Call) -> Tensor:
            found.append(hidden)
            raise _Caught

        with self._replaced(catch), suppress(_Caught):
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

        ids = self._blank(hidden.shape[0], hidden.shape[1], hidden.device)
        with self._replaced(catch), torch.set_grad_enabled(not self.keeps_calls):
            self._run(self._inner, ids, mask)
        if self.keeps_calls:
            self._calls = [*self._calls[1 - _REMEMBERED :], (mask, hidden.shape[:2], calls)]
        return calls

    def scores(self, rows: Tensor) -> Tensor:
        names, last = self.shape.names, len(self.blocks) - 1
        if names.reads_images:  # a blank image in front would be a convolution
            normed = self._inner.get_submodule(names.final_norm)(rows)
            of_images: Tensor = self._model.get_submodule(names.classifier[-1])(normed)
            return of_images

        def catch(index: int, hidden: Tensor, call: Call) -> Tensor:
            return rows.unsqueeze(1) if index == last else hidden

        ids = self._blank(len(rows), 1, rows.device)
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


def _pixels(ids: Tensor, patches: Patches) -> Tensor:
    """Return images of levels from 0 to 255, patch by patch behind a position for the class, as -1 to 1."""
    side, across = patches.patch_side, patches.image_side // patches.patch_side
    levels = ids[:, 1:].reshape(-1, across, across, patches.num_channels, side, side)
    whole = levels.permute(0, 3, 1, 4, 2, 5).reshape(-1, patches.num_channels, across * side, across * side)
    return whole.to(torch.float64) / 127.5 - 1.0


def _as_trained(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (as_trained(inputs[0]), *inputs[1:])


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
