"""Tiny models with drawn weights and batches for them, shared by the tests of the model side."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosim.learning.base.random import RandomBase
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.shape import ModelShape, ModelTask
from cosim.rng import stream

TINY: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "n_layer": 3,
        "n_embd": 16,
        "n_head": 2,
        "n_positions": 32,
        "vocab_size": 40,
        "pad_token_id": 0,
    },
    "llama": {
        "model_type": "llama",
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "vocab_size": 40,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "bert": {
        "model_type": "bert",
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "vocab_size": 40,
    },
    "roberta": {
        "model_type": "roberta",
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "max_position_embeddings": 34,
        "vocab_size": 40,
    },
}


NUM_LABELS = 3
USES: tuple[tuple[str, ModelTask], ...] = (
    ("gpt2", "causal_lm"),
    ("llama", "causal_lm"),
    ("gpt2", "classification"),
    ("llama", "classification"),
    ("bert", "classification"),
    ("roberta", "classification"),
)


def tiny_base(family: str, **changes: Any) -> RandomBase:
    """Return a tiny model of a family; its weights are large enough for attention to matter."""
    return RandomBase(config={**TINY[family], "initializer_range": 0.3, **changes})


def tiny_batch(shape: ModelShape, batch_size: int, length: int, padded: bool = True, seed: int = 0) -> Batch:
    """Return a batch; padded, each example is one token shorter than the one before, down to one token."""
    rng = stream(seed, "tiny batch").generator()
    if shape.patches is not None:
        levels = rng.integers(0, 256, size=(batch_size, shape.max_positions, shape.patches.numbers))
        seen = np.ones(levels.shape[:2], dtype=np.bool_)
        return Batch(levels, seen, rng.integers(0, shape.num_labels, size=batch_size))
    ids = rng.integers(3, shape.vocab_size, size=(batch_size, length))
    lengths = np.maximum(length - np.arange(batch_size) * padded, 1)
    mask = np.arange(length) < lengths[:, None]
    ids[~mask] = 1 if shape.family == "roberta" else 0
    if shape.task == "classification":
        return Batch(ids, mask, rng.integers(0, shape.num_labels, size=batch_size))
    return Batch(ids, mask, np.where(mask, ids, IGNORED))


def moved_adapter(model: SplitModel, seed: int = 0) -> Adapter:
    """Return leaf tensors away from the start, where B is zero and A has no gradient."""
    moved = {}
    for name, values in model.initial_adapter().items():
        noise = stream(seed, "moved", name).generator().normal(scale=0.1, size=tuple(values.shape))
        moved[name] = (values + values.new_tensor(noise)).requires_grad_()
    return moved


def gradients(adapter: Adapter) -> dict[str, Tensor]:
    """Return the gradients of an adapter, each of them there."""
    found = {name: values.grad for name, values in adapter.items()}
    assert all(gradient is not None for gradient in found.values())
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def furthest(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Return the largest difference between two sets of tensors of the same names."""
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def as_charged(model: SplitModel) -> SplitModel:
    """Let a model compute what FLOP are charged for: attention in steps, and every position to the end."""
    body: Any = model._body
    run_block, scores, asked = body.run_block, body.scores, [torch.zeros(0)]

    def every_place(block: Any, hidden: Tensor, mask: Any, places: Tensor | None = None) -> Tensor:
        out: Tensor = run_block(block, hidden, mask)
        if places is None:
            return out
        asked[0] = places
        return out.flatten(0, 1)

    def every_score(rows: Tensor) -> Tensor:
        if body.is_causal:  # transformers scores every position, and reads some
            rows_of_all: Tensor = scores(rows)
            return rows_of_all.index_select(0, asked[0])
        found: Tensor = scores(rows.index_select(0, asked[0]))
        return found

    model.attend_by(attend_stepwise)
    body.run_block, body.scores = every_place, every_score
    return model
