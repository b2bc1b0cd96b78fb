"""What the config of a model does not say: names of its modules, and the defaults of transformers.

How the modules are called one after the other is in :mod:`cosim.learning.families`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

ModelTask = Literal["causal_lm", "classification"]
"""Predict the next token, or one label for the whole sequence."""


@dataclass(frozen=True)
class Architecture:
    """Names in transformers; an empty one is of what an architecture does not have.

    Attributes
    ----------
    tasks
        What it can be used for.
    blocks
        The list of blocks, in the whole model.
    front
        Embedding tables and norms in front of the blocks, in the inner model, in its order.
    queries_keys_values, attention_output, mlp_inputs, mlp_output
        Linear layers, in a block; one fused layer is named three times.
    norms
        Norms of a block, each with the linear layer that the model lists behind it.
    final_norm, pooler
        Behind the blocks, in the inner model.
    classifier
        Its layers, in the whole model; all but the last are as wide as the model.
    norm_has_bias, classifier_has_bias
        Beside their weights.
    stores_inputs_first
        Whether the weights of a block's linear layer are stored as (inputs, outputs).
    default_targets
        Layers that get an adapter where the scenario names none.
    defaults
        Values a config may leave out.
    """

    tasks: tuple[ModelTask, ...]
    blocks: str
    front: tuple[str, ...]
    queries_keys_values: tuple[str, str, str]
    attention_output: str
    mlp_inputs: tuple[str, ...]
    mlp_output: str
    norms: tuple[tuple[str, str], ...]
    final_norm: str
    pooler: str
    classifier: tuple[str, ...]
    default_targets: tuple[str, ...]
    defaults: Mapping[str, Any]
    norm_has_bias: bool = True
    classifier_has_bias: bool = True
    stores_inputs_first: bool = False

    @property
    def embedding_tables(self) -> tuple[str, ...]:
        """What of ``front`` is no norm."""
        return tuple(name for name in self.front if not name.endswith("LayerNorm"))


_GPT2 = Architecture(
    tasks=("causal_lm", "classification"),
    blocks="transformer.h",
    front=("wte", "wpe"),
    queries_keys_values=("attn.c_attn", "attn.c_attn", "attn.c_attn"),
    attention_output="attn.c_proj",
    mlp_inputs=("mlp.c_fc",),
    mlp_output="mlp.c_proj",
    norms=(("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")),
    final_norm="ln_f",
    pooler="",
    classifier=("score",),
    classifier_has_bias=False,
    stores_inputs_first=True,
    default_targets=("c_attn",),
    defaults={
        "vocab_size": 50257,
        "max_position_embeddings": 1024,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "tie_word_embeddings": True,
    },
)
_LLAMA = Architecture(
    tasks=("causal_lm", "classification"),
    blocks="model.layers",
    front=("embed_tokens",),
    queries_keys_values=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.o_proj",
    mlp_inputs=("mlp.gate_proj", "mlp.up_proj"),
    mlp_output="mlp.down_proj",
    norms=(("input_layernorm", ""), ("post_attention_layernorm", "")),
    final_norm="norm",
    pooler="",
    classifier=("score",),
    norm_has_bias=False,
    classifier_has_bias=False,
    default_targets=("q_proj", "v_proj"),
    defaults={
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
)
_BERT = Architecture(
    tasks=("classification",),
    blocks="bert.encoder.layer",
    front=(
        "embeddings.word_embeddings",
        "embeddings.position_embeddings",
        "embeddings.token_type_embeddings",
        "embeddings.LayerNorm",
    ),
    queries_keys_values=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention_output="attention.output.dense",
    mlp_inputs=("intermediate.dense",),
    mlp_output="output.dense",
    norms=(("attention.output.LayerNorm", "intermediate.dense"), ("output.LayerNorm", "")),
    final_norm="",
    pooler="pooler.dense",
    classifier=("classifier",),
    default_targets=("query", "value"),
    defaults={
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "type_vocab_size": 2,
    },
)
_ROBERTA = replace(
    _BERT,
    blocks="roberta.encoder.layer",
    front=(
        "embeddings.word_embeddings",
        "embeddings.token_type_embeddings",
        "embeddings.LayerNorm",
        "embeddings.position_embeddings",
    ),
    pooler="",
    classifier=("classifier.dense", "classifier.out_proj"),
    defaults={**_BERT.defaults, "vocab_size": 50265},
)

FAMILIES: Mapping[str, Architecture] = {"bert": _BERT, "gpt2": _GPT2, "llama": _LLAMA, "roberta": _ROBERTA}
"""The architectures that can be cut, by the ``model_type`` of their config."""
