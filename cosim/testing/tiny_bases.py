"""Tiny models with drawn weights and batches for them, shared by the tests of the model side."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosim.learning.base.random import RandomBase
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.trainable.lora import Lora
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
_SIZES: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LLAMA = {**_SIZES, "intermediate_size": 24, "num_key_value_heads": 2}
_GEMMA = {**_LLAMA, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}
_DISTANCES = {"relative_attention": True, "position_buckets": 4, "pos_att_type": ["c2p", "p2c"]}
HOOKED: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 3, "n_head": 4, "hidden_size": 16, "vocab_size": 40, "pad_token_id": 0},
    "deberta-v2": {
        **_SIZES,
        **_DISTANCES,
        "intermediate_size": 24,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "distilbert": {
        "n_layers": 3,
        "n_heads": 4,
        "dim": 16,
        "hidden_dim": 24,
        "vocab_size": 40,
        "max_position_embeddings": 32,
    },
    "falcon": {**_SIZES},
    "gemma": {**_LLAMA, "head_dim": 8},
    "gemma2": _GEMMA,
    "gemma3_text": {**_GEMMA, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gpt_neox": {**_SIZES, "intermediate_size": 24},
    "mistral": {**_LLAMA, "sliding_window": 4},
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "opt": {**_SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16, "init_std": 0.3},
    "phi": _LLAMA,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "smollm3": {**_LLAMA, "no_rope_layers": [1, 0, 1]},
    "stablelm": {**_LLAMA, "partial_rotary_factor": 0.5},
    "starcoder2": _LLAMA,
    "vit": {
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "image_size": 8,
        "patch_size": 4,
    },
}
"""Families whose blocks are called as transformers has them."""

FOUND: dict[str, tuple[ModelTask, dict[str, Any]]] = {
    "arcee": ("classification", _LLAMA),
    "cohere": ("causal_lm", _LLAMA),
    "ctrl": (
        "causal_lm",
        {"n_layer": 3, "n_embd": 16, "n_head": 4, "n_positions": 32, "dff": 24, "vocab_size": 40},
    ),
    "electra": ("classification", {**_SIZES, "embedding_size": 16, "intermediate_size": 24}),
    "ernie": ("classification", {**_SIZES, "intermediate_size": 24}),
    "glm": ("causal_lm", {**_LLAMA, "head_dim": 4}),
    "gpt_bigcode": (
        "causal_lm",
        {"n_layer": 3, "n_embd": 16, "n_head": 4, "n_positions": 32, "vocab_size": 40},
    ),
    "gptj": (
        "causal_lm",
        {"n_layer": 3, "n_embd": 16, "n_head": 4, "n_positions": 32, "vocab_size": 40, "rotary_dim": 4},
    ),
    "granite": ("causal_lm", _LLAMA),
    "modernbert": (
        "classification",
        {**_SIZES, "intermediate_size": 24, "global_attn_every_n_layers": 2, "local_attention": 4},
    ),
    "mpnet": ("classification", {**_SIZES, "intermediate_size": 24}),
    "mpt": ("causal_lm", {"n_layers": 3, "d_model": 16, "n_heads": 4, "max_seq_len": 32, "vocab_size": 40}),
    "persimmon": ("causal_lm", _LLAMA),
    "xlm-roberta": ("classification", {**_SIZES, "intermediate_size": 24}),
}
"""Models of no family, whose shape is found in their modules, and what a test uses each for."""

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("deberta-v2", {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2}),
    ("deberta-v2", {"relative_attention": False, "position_biased_input": True, "norm_rel_ebd": "none"}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"alibi": True, "parallel_attn": False, "multi_query": False, "bias": True}),
    ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": True}),
    ("qwen2", {"tie_word_embeddings": True, "use_sliding_window": True, "max_window_layers": 1}),
    ("starcoder2", {"use_bias": False, "tie_word_embeddings": False}),
)
"""What else configs of these families ask for."""

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
    others = {**HOOKED, **{name: config for name, (_, config) in FOUND.items()}}
    values = TINY[family] if family in TINY else {"model_type": family, **others[family]}
    return RandomBase(config={**values, "initializer_range": 0.3, **changes})


def tiny_model(
    family: str, task: ModelTask, lora: Lora | None = None, dtype: Any = "float64", **changes: Any
) -> SplitModel:
    """Return a tiny model that can be cut."""
    labels = NUM_LABELS if task == "classification" else 0
    return SplitModel.load(tiny_base(family, **changes), lora or Lora(rank=2), task, labels, dtype)


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


def scored_logits(batch: Batch, logits: Tensor) -> Tensor:
    """Return what transformers says of the positions with a target, example by example."""
    if batch.labels.ndim == 1:
        return logits
    return logits[:, :-1][torch.tensor(batch.labels[:, 1:] != IGNORED)]


def keep_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Llama of transformers, which narrows its softmax to float32, stay in float64."""
    from transformers.models.llama import modeling_llama

    softmax = torch.nn.functional.softmax

    class Functional:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch.nn.functional, name)

        def softmax(self, scores: Tensor, dim: int, dtype: Any = None) -> Tensor:
            return softmax(scores, dim=dim, dtype=None if scores.dtype == torch.float64 else dtype)

    class Nn:
        functional = Functional()

        def __getattr__(self, name: str) -> Any:
            return getattr(torch.nn, name)

    monkeypatch.setattr(modeling_llama, "nn", Nn())


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
