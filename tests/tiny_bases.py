"""Tiny models of every family that tests know, and what is asked of transformers for them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cosim.learning.base.random import RandomBase
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.model import SplitModel
from cosim.learning.shape import ModelTask
from cosim.learning.trainable.lora import Lora
from cosim.testing import tiny_bases
from cosim.testing.tiny_bases import NUM_LABELS, TINY

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


def tiny_base(family: str, **changes: Any) -> RandomBase:
    """Return a tiny model of a family; its weights are large enough for attention to matter."""
    if family in TINY:
        return tiny_bases.tiny_base(family, **changes)
    config = FOUND[family][1] if family in FOUND else HOOKED[family]
    return RandomBase(config={"model_type": family, **config, "initializer_range": 0.3, **changes})


def tiny_model(
    family: str, task: ModelTask, lora: Lora | None = None, dtype: Any = "float64", **changes: Any
) -> SplitModel:
    """Return a tiny model that can be cut."""
    labels = NUM_LABELS if task == "classification" else 0
    return SplitModel.load(tiny_base(family, **changes), lora or Lora(rank=2), task, labels, dtype)


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
