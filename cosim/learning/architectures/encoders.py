"""Encoders whose blocks are computed by the code of transformers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cosim.errors import ScenarioError
from cosim.learning.architectures.architecture import Architecture
from cosim.learning.architectures.plain import BERT

_DISTILBERT = replace(
    BERT,
    has_blocks_of_ours=False,
    blocks="distilbert.transformer.layer",
    front=("embeddings.word_embeddings", "embeddings.position_embeddings", "embeddings.LayerNorm"),
    queries_keys_values=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    attention_output="attention.out_lin",
    mlp_inputs=("ffn.lin1",),
    mlp_output="ffn.lin2",
    norms=(("sa_layer_norm", "ffn.lin1"), ("output_layer_norm", "")),
    pooler="",
    classifier=("pre_classifier", "classifier"),
    default_targets=("q_lin", "v_lin"),
    entries={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    },
    defaults={**BERT.defaults, "num_hidden_layers": 6},
)


def _deberta(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    """Return the names with the tables that a config asks for."""
    if config.get("conv_kernel_size"):
        raise ScenarioError("model config: conv_kernel_size is set, and a convolution behind the first block "
                            "is not known here")  # fmt: skip
    for name in ("embedding_size", "pooler_hidden_size"):
        if config.get(name) not in (None, names.entry(config, "hidden_size")):
            raise ScenarioError(
                f"model config: {name} is not hidden_size, and such a model is not known here"
            )
    if config.get("attention_head_size"):
        raise ScenarioError("model config: attention_head_size is set, and such a model is not known here")
    front = ["embeddings.word_embeddings"]
    front += ["embeddings.position_embeddings"] if names.is_on(config, "position_biased_input") else []
    front += ["embeddings.token_type_embeddings"] if names.entry(config, "type_vocab_size") else []
    front.append("embeddings.LayerNorm")
    norm = ["encoder.LayerNorm"] if "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower() else []
    if not names.is_on(config, "relative_attention"):
        return replace(names, front=(*front, *norm), has_relative_attention=False)
    kinds = names.entry(config, "pos_att_type") or ()
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds
    if {kind.strip().lower() for kind in kinds} != {"c2p", "p2c"}:
        raise ScenarioError('model config: pos_att_type must be ["c2p", "p2c"], or relative_attention false')
    return replace(names, front=(*front, "encoder.rel_embeddings", *norm))


_DEBERTA = replace(
    BERT,
    has_blocks_of_ours=False,
    blocks="deberta.encoder.layer",
    queries_keys_values=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
    pooler="",
    classifier=("pooler.dense", "classifier"),
    has_relative_attention=True,
    default_targets=("query_proj", "value_proj"),
    defaults={
        "vocab_size": 128100,
        "max_position_embeddings": 512,
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "type_vocab_size": 0,
        "position_biased_input": True,
    },
    vary=_deberta,
)

_VIT = Architecture(
    tasks=("classification",),
    blocks="vit.layers",
    front=("embeddings",),
    queries_keys_values=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    attention_output="attention.o_proj",
    mlp_inputs=("mlp.fc1",),
    mlp_output="mlp.fc2",
    norms=(("layernorm_before", "mlp.fc1"), ("layernorm_after", "mlp.fc1")),
    final_norm="layernorm",
    classifier=("classifier",),
    classifier_has_bias=True,
    qkv_bias="qkv_bias",
    is_causal=False,
    reads_images=True,
    default_targets=("q_proj", "v_proj"),
    former_names=(
        (r"encoder\.layer\.", "layers."),
        (r"attention\.attention\.(q|k|v)[a-z]+\.", r"attention.\1_proj."),
        (r"attention\.output\.dense\.", "attention.o_proj."),
        (r"intermediate\.dense\.", "mlp.fc1."),
        (r"output\.dense\.", "mlp.fc2."),
    ),
    defaults={
        "vocab_size": 256,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": True,
    },
)

ENCODERS: Mapping[str, Architecture] = {"deberta-v2": _DEBERTA, "distilbert": _DISTILBERT, "vit": _VIT}
