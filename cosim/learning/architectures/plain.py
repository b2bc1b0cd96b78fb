"""Architectures whose blocks are computed by bodies of ours: GPT-2, Llama, BERT and RoBERTa."""

from collections.abc import Mapping
from dataclasses import replace

from cosim.learning.architectures.architecture import Architecture

_GPT2 = Architecture(
    blocks="transformer.h",
    front=("wte", "wpe"),
    queries_keys_values=("attn.c_attn", "attn.c_attn", "attn.c_attn"),
    attention_output="attn.c_proj",
    mlp_inputs=("mlp.c_fc",),
    mlp_output="mlp.c_proj",
    norms=(("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")),
    final_norm="ln_f",
    stores_inputs_first=True,
    has_blocks_of_ours=True,
    default_targets=("c_attn",),
    entries={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
        "intermediate_size": "n_inner",
    },
    defaults={
        "vocab_size": 50257,
        "max_position_embeddings": 1024,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "tie_word_embeddings": True,
    },
)
LLAMA = Architecture(
    blocks="model.layers",
    front=("embed_tokens",),
    queries_keys_values=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.o_proj",
    mlp_inputs=("mlp.gate_proj", "mlp.up_proj"),
    mlp_output="mlp.down_proj",
    norms=(("input_layernorm", ""), ("post_attention_layernorm", "")),
    final_norm="norm",
    norm_has_bias=False,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    mlp_bias="mlp_bias",
    takes_head_dim=True,
    has_blocks_of_ours=True,
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
BERT = Architecture(
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
    pooler="pooler.dense",
    classifier=("classifier",),
    classifier_has_bias=True,
    is_causal=False,
    has_blocks_of_ours=True,
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
    BERT,
    blocks="roberta.encoder.layer",
    front=(
        "embeddings.word_embeddings",
        "embeddings.token_type_embeddings",
        "embeddings.LayerNorm",
        "embeddings.position_embeddings",
    ),
    pooler="",
    classifier=("classifier.dense", "classifier.out_proj"),
    defaults={**BERT.defaults, "vocab_size": 50265},
)

PLAIN: Mapping[str, Architecture] = {"bert": BERT, "gpt2": _GPT2, "llama": LLAMA, "roberta": _ROBERTA}
