"""Decoders whose blocks are computed by the code of transformers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cosim.errors import ScenarioError
from cosim.learning.architectures.architecture import Architecture, NormWidth, refuse
from cosim.learning.architectures.plain import LLAMA

_LLAMA = replace(LLAMA, has_blocks_of_ours=False, mlp_bias=False)
_HEAD_NORMS: Mapping[str, NormWidth] = {"self_attn.q_norm": "head", "self_attn.k_norm": "head"}
_QUERY_NORMS = (("self_attn.q_norm", "mlp.gate_proj"), ("self_attn.k_norm", "mlp.gate_proj"))


def _with(base: Architecture, defaults: Mapping[str, Any], **changes: Any) -> Architecture:
    return replace(base, defaults={**base.defaults, **defaults}, **changes)


_QWEN2 = _with(
    _LLAMA,
    {
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
    },
    qkv_bias=True,
    output_bias=False,
)
_QWEN3 = _with(
    _QWEN2,
    {"head_dim": 128},
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    norms=(*_QUERY_NORMS, *LLAMA.norms),
    norm_widths=_HEAD_NORMS,
)
_MISTRAL = _with(
    _LLAMA,
    {"intermediate_size": 14336, "max_position_embeddings": 131072, "num_key_value_heads": 8},
    qkv_bias=False,
    output_bias=False,
)
_GEMMA = _with(
    _LLAMA,
    {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
)
_GEMMA2 = _with(
    _GEMMA,
    {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    norms=(*LLAMA.norms, ("pre_feedforward_layernorm", ""), ("post_feedforward_layernorm", "")),
)
_GEMMA3 = _with(
    _GEMMA2,
    {"vocab_size": 262208, "max_position_embeddings": 131072},
    norms=(*_QUERY_NORMS, *_GEMMA2.norms),
    norm_widths=_HEAD_NORMS,
)


def _phi(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    refuse(config, "qk_layernorm", True, "a norm of queries and keys")
    return names


_PHI = _with(
    _LLAMA,
    {"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24},
    attention_output="self_attn.dense",
    mlp_inputs=("mlp.fc1",),
    mlp_output="mlp.fc2",
    norms=(("input_layernorm", ""),),
    final_norm="final_layernorm",
    norm_has_bias=True,
    head_has_bias=True,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    is_parallel=True,
    vary=_phi,
)
_PHI3 = _with(
    _LLAMA,
    {"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096},
    queries_keys_values=("self_attn.qkv_proj",) * 3,
    listed=("self_attn.o_proj", "self_attn.qkv_proj"),
    mlp_inputs=("mlp.gate_up_proj",),
    fuses_gate=True,
    qkv_bias=False,
    output_bias=False,
    default_targets=("qkv_proj",),
)


def _opt(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    refuse(config, "do_layer_norm_before", False, "a norm behind every layer")
    refuse(config, "layer_norm_elementwise_affine", False, "a norm without weights")
    refuse(config, "_remove_final_layer_norm", True, "a model without a last norm")
    width = names.entry(config, "hidden_size")
    if config.get("word_embed_proj_dim") not in (None, width):
        raise ScenarioError(
            f"model config: word_embed_proj_dim is {config['word_embed_proj_dim']} and hidden_size {width}; "
            "tokens that are not as wide as the blocks are not known here"
        )
    return names


_OPT = Architecture(
    blocks="model.decoder.layers",
    front=("decoder.embed_tokens", "decoder.embed_positions"),
    queries_keys_values=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.out_proj",
    mlp_inputs=("fc1",),
    mlp_output="fc2",
    listed=("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"),
    norms=(("self_attn_layer_norm", "fc1"), ("final_layer_norm", "")),
    final_norm="decoder.final_layer_norm",
    qkv_bias="enable_bias",
    output_bias="enable_bias",
    mlp_bias="enable_bias",
    more_positions=2,
    default_targets=("q_proj", "v_proj"),
    entries={"intermediate_size": "ffn_dim"},
    defaults={
        "vocab_size": 50272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "enable_bias": True,
    },
    vary=_opt,
)


def _gpt_neox(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    return replace(names, is_parallel=names.is_on(config, "use_parallel_residual"))


_GPT_NEOX = Architecture(
    blocks="gpt_neox.layers",
    front=("embed_in",),
    queries_keys_values=("attention.query_key_value",) * 3,
    attention_output="attention.dense",
    mlp_inputs=("mlp.dense_h_to_4h",),
    mlp_output="mlp.dense_4h_to_h",
    norms=(
        ("input_layernorm", "attention.query_key_value"),
        ("post_attention_layernorm", "attention.query_key_value"),
    ),
    final_norm="final_layer_norm",
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    default_targets=("query_key_value",),
    former_names=((r"^embed_out\.", "lm_head."),),
    defaults={
        "vocab_size": 50432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "use_parallel_residual": True,
    },
    vary=_gpt_neox,
)
_BLOOM = Architecture(
    blocks="transformer.h",
    front=("word_embeddings", "word_embeddings_layernorm"),
    queries_keys_values=("self_attention.query_key_value",) * 3,
    attention_output="self_attention.dense",
    mlp_inputs=("mlp.dense_h_to_4h",),
    mlp_output="mlp.dense_4h_to_h",
    norms=(
        ("input_layernorm", "self_attention.query_key_value"),
        ("post_attention_layernorm", "mlp.dense_h_to_4h"),
    ),
    final_norm="ln_f",
    default_targets=("query_key_value",),
    entries={
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "hidden_size": "n_embed",
        "max_position_embeddings": "seq_length",
    },
    defaults={
        "vocab_size": 250880,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
)


def _falcon(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    has_new_blocks = names.is_on(config, "new_decoder_architecture")
    is_parallel = has_new_blocks or names.is_on(config, "parallel_attn")
    norms = [("post_attention_layernorm", ""), ("input_layernorm", "")]
    if has_new_blocks and config.get("num_ln_in_parallel_attn") in (None, 2):
        norms = [("ln_attn", ""), ("ln_mlp", "")]
    elif is_parallel:
        norms = norms[1:]
    return replace(names, norms=tuple(norms), is_parallel=is_parallel)


_FALCON = replace(
    _BLOOM,
    front=("word_embeddings",),
    qkv_bias="bias",
    output_bias="bias",
    mlp_bias="bias",
    entries={"hidden_size": "n_embed", "intermediate_size": "ffn_hidden_size"},
    defaults={
        "vocab_size": 65024,
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "parallel_attn": True,
        "multi_query": True,
    },
    vary=_falcon,
)
_OLMO = _with(_LLAMA, {"vocab_size": 50304}, norms=(), final_norm="")
_OLMO2 = replace(
    _OLMO,
    norms=(*_QUERY_NORMS, ("post_attention_layernorm", ""), ("post_feedforward_layernorm", "")),
    norm_widths={"self_attn.q_norm": "queries", "self_attn.k_norm": "keys"},
    final_norm="norm",
    norms_outputs=True,
)
_SMOLLM3 = _with(
    _LLAMA,
    {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    mlp_bias="mlp_bias",
)


def _stablelm(names: Architecture, config: Mapping[str, Any]) -> Architecture:
    refuse(config, "qk_layernorm", True, "a norm of queries and keys")
    if not names.is_on(config, "use_parallel_residual"):
        return names
    return replace(names, is_parallel=True, norms=names.norms[:1])


_STABLELM = _with(
    _LLAMA,
    {
        "vocab_size": 50304,
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    norm_has_bias=True,
    qkv_bias="use_qkv_bias",
    output_bias=False,
    takes_head_dim=False,
    vary=_stablelm,
)
_STARCODER2 = _with(
    _LLAMA,
    {
        "vocab_size": 49152,
        "hidden_size": 3072,
        "intermediate_size": 12288,
        "num_hidden_layers": 30,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "use_bias": True,
        "tie_word_embeddings": True,
    },
    mlp_inputs=("mlp.c_fc",),
    mlp_output="mlp.c_proj",
    norm_has_bias=True,
    qkv_bias="use_bias",
    output_bias="use_bias",
    mlp_bias="use_bias",
)

DECODERS: Mapping[str, Architecture] = {
    "bloom": _BLOOM,
    "falcon": _FALCON,
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
    "gpt_neox": _GPT_NEOX,
    "mistral": _MISTRAL,
    "olmo": _OLMO,
    "olmo2": _OLMO2,
    "opt": _OPT,
    "phi": _PHI,
    "phi3": _PHI3,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "smollm3": _SMOLLM3,
    "stablelm": _STABLELM,
    "starcoder2": _STARCODER2,
}
