"""Sizes that a Hugging Face config says, or leaves to the defaults of transformers, without torch."""

from collections.abc import Mapping
from typing import Any, get_args

from cosim.errors import ScenarioError
from cosim.learning.architectures import FAMILIES, Architecture, ModelTask
from cosim.learning.architectures.architecture import is_norm
from cosim.learning.config_values import LARGEST, refuse_values, shown
from cosim.learning.layers import Linear, Patches, RelativeAttention, Weight

_PROJECTION = "embeddings.patch_embeddings.projection"
_UNCUTTABLE = {"add_cross_attention": "cross-attention", "is_decoder": "a causal BERT"}


def family_of(config: Mapping[str, Any], task: ModelTask) -> Architecture:
    """Return the family of a config, or say why it cannot be cut."""
    if task not in get_args(ModelTask):
        raise ValueError(f"no task {task!r}; known: {', '.join(get_args(ModelTask))}")
    if "model_type" not in config:
        raise ScenarioError(f"model config: names no model_type; it must be one of {', '.join(FAMILIES)}")
    model_type = config["model_type"]
    if not isinstance(model_type, str) or model_type not in FAMILIES:  # no guess: it is read off a file
        raise ScenarioError(
            f"model config: a model_type {shown(model_type)} cannot be cut; those that can: "
            f"{', '.join(FAMILIES)}"
        )
    family = FAMILIES[model_type]
    if task not in family.tasks:
        raise ScenarioError(
            f"model config: a {model_type} model cannot be used for {task}; "
            f"it can be used for {', '.join(family.tasks)}"
        )
    for key, what in _UNCUTTABLE.items():
        if config.get(key):
            raise ScenarioError(f"model config: {key} is on, and {what} cannot be cut; it must be off")
    refuse_values(config)
    return family.of(config)


def size_of(config: Mapping[str, Any], names: Architecture, key: str) -> int:
    """Return a positive whole number of the config, under either of its names."""
    value = names.entry(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScenarioError(f"model config: {key} must be a whole number above 0, got {shown(value)}")
    if value > LARGEST:
        raise ScenarioError(f"model config: {key} must be at most {LARGEST}, got {shown(value)}")
    return value


def head_dim_of(config: Mapping[str, Any], names: Architecture, width: int, heads: int) -> int:
    """Return how wide an attention head is."""
    asked = names.entry(config, "head_dim") if names.takes_head_dim else None
    return int(asked or width // heads)


def key_value_heads_of(config: Mapping[str, Any], names: Architecture, heads: int) -> int:
    """Return how many heads have keys and values; Falcon says so in words of its own."""
    if config["model_type"] != "falcon":
        return int(names.entry(config, "num_key_value_heads") or heads)
    if names.is_on(config, "new_decoder_architecture") or not names.is_on(config, "multi_query"):
        return int(config.get("num_kv_heads") or heads)
    return 1


def linears_of(
    config: Mapping[str, Any], names: Architecture, width: int, queries: int, keys: int
) -> dict[str, Linear]:
    """Return the linear layers of a block by name, in the order of the forward pass.

    Parameters
    ----------
    queries, keys
        How wide all queries, and all keys, are together.
    """
    attention_bias, output_bias, mlp_bias = (
        names.is_on(config, one) for one in (names.qkv_bias, names.output_bias, names.mlp_bias)
    )
    mlp_width = size_of({"intermediate_size": names.entry(config, "intermediate_size") or 4 * width}, names,
                      "intermediate_size")  # fmt: skip
    query, key, value = names.queries_keys_values
    into = {query: queries + 2 * keys} if query == key else {query: queries, key: keys, value: keys}
    if names.has_relative_attention and not config.get("share_att_key"):
        into |= dict.fromkeys(_positions_of(key, query), queries)
    layers = [Linear(name, width, d_out, attention_bias) for name, d_out in into.items()]
    layers.append(Linear(names.attention_output, queries, width, output_bias))
    gated = mlp_width * (1 + names.fuses_gate)
    layers += [Linear(name, width, gated, mlp_bias) for name in names.mlp_inputs]
    layers.append(Linear(names.mlp_output, mlp_width, width, mlp_bias))
    return {layer.name: layer for layer in layers}


def _positions_of(key: str, query: str) -> tuple[str, str]:
    """Return DeBERTa's layers of its own for distances."""
    return (key.replace("key_proj", "pos_key_proj"), query.replace("query_proj", "pos_query_proj"))


def relative_of(
    config: Mapping[str, Any], names: Architecture, key: Linear, query: Linear
) -> RelativeAttention | None:
    """Return how attention sees distances; ``key`` and ``query`` are its layers for tokens."""
    if not names.has_relative_attention:
        return None
    if not config.get("share_att_key"):
        own = _positions_of(key.name, query.name)
        key, query = key._replace(name=own[0]), query._replace(name=own[1])
    return RelativeAttention(_num_distances(config, names), key, query)


def _num_distances(config: Mapping[str, Any], names: Architecture) -> int:
    """Return the rows of DeBERTa's table of distances."""
    buckets, longest = config.get("position_buckets", -1), config.get("max_relative_positions", -1)
    longest = longest if longest >= 1 else size_of(config, names, "max_position_embeddings")
    return int(2 * (buckets if buckets > 0 else longest))


def patches_of(config: Mapping[str, Any], names: Architecture) -> Patches | None:
    """Return how a model takes images; None for a model of texts."""
    if not names.reads_images:
        return None
    image, patch = size_of(config, names, "image_size"), size_of(config, names, "patch_size")
    if image % patch:
        raise ScenarioError(f"model config: image_size {image} is no multiple of patch_size {patch}")
    return Patches(image, patch, size_of(config, names, "num_channels"))


def front_of(config: Mapping[str, Any], names: Architecture, width: int) -> tuple[Weight, ...]:
    """Return what is in front of the blocks: tables and norms."""
    found: list[Weight] = []
    if (patches := patches_of(config, names)) is not None:
        side = patches.patch_side
        return (
            Weight("embeddings.cls_token", (1, 1, width)),
            Weight("embeddings.position_embeddings", (1, patches.count + 1, width)),
            Weight(f"{_PROJECTION}.weight", (width, patches.num_channels, side, side)),
            Weight(f"{_PROJECTION}.bias", (width,)),
        )
    for name in names.front:
        last = name.rpartition(".")[2]
        if is_norm(last):
            found += [
                Weight(f"{name}.{kind}", (width,))
                for kind in (("weight", "bias") if names.norm_has_bias else ("weight",))
            ]
        elif last in ("position_embeddings", "wpe", "embed_positions"):
            rows = size_of(config, names, "max_position_embeddings") + names.more_positions
            found.append(Weight(f"{name}.weight", (rows, width)))
        elif last == "token_type_embeddings":
            found.append(Weight(f"{name}.weight", (size_of(config, names, "type_vocab_size"), width)))
        elif last == "rel_embeddings":
            found.append(Weight(f"{name}.weight", (_num_distances(config, names), width)))
        else:
            found.append(Weight(f"{name}.weight", (size_of(config, names, "vocab_size"), width)))
    return tuple(found)
