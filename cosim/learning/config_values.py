"""Which values a config.json may hold where they decide what a model computes; found without transformers.

transformers refuses some values when a model is built, trips over others in
the middle of it, and takes the rest. What is refused here is refused by a
check already, in one line that names the entry.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from cosim.errors import ScenarioError, quoted

LARGEST = 2**31 - 1
"""Largest size and id of a model."""

ACTIVATIONS = frozenset(
    {
        *("gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_accurate"),
        *(
            "gelu_python_tanh",
            "hardswish",
            "laplace",
            "leaky_relu",
            "linear",
            "mish",
            "quick_gelu",
            "relu",
            "relu2",
            "relu6",
        ),
        *("sigmoid", "silu", "swish", "tanh"),
    }
)
"""Activations without a weight of their own, as transformers calls them."""

WITHOUT_SAY = frozenset(
    {
        *("architectures", "auto_map", "id2label", "label2id", "num_labels", "problem_type"),
        *("dtype", "torch_dtype", "use_cache", "pretraining_tp", "chunk_size_feed_forward", "layer_types"),
        *("fusion_config", "transformers_weights", "attn_implementation", "_attn_implementation"),
        *("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout"),
        *("summary_proj_to_labels", "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    }
)
"""Entries that decide nothing of a frozen base without dropout, or what the scenario decides."""

_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
_ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


class _Values(NamedTuple):
    """The values an entry may have, in words and as a test; null only where it means something."""

    words: str
    fits: Callable[[Any], bool]
    may_be_null: bool = False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and isfinite(value) and abs(value) <= LARGEST


_SIZE = _Values(
    f"a whole number from 1 to {LARGEST}, or null", lambda one: _is_whole(one) and 1 <= one <= LARGEST, True
)
_ID = _Values(
    "the number of a token, or null", lambda one: _is_whole(one) and -LARGEST <= one <= LARGEST, True
)
_IDS = _Values(
    "the number of a token, a list of them, or null",
    lambda one: all(map(_ID.fits, one)) if isinstance(one, list | tuple) else _ID.fits(one),
    True,
)
_SWITCH = _Values("true or false", lambda one: isinstance(one, bool))
_DECIMAL = _Values(
    "a decimal number of at least 0, such as 0.02", lambda one: isinstance(one, float) and 0 <= one < LARGEST
)
_SHARE = _Values(
    "a decimal number from 0 to 1, such as 0.02", lambda one: isinstance(one, float) and 0 <= one <= 1
)
_ABOVE_0 = _Values("a number above 0", lambda one: _is_number(one) and one > 0)
_ACTIVATION = _Values(
    f"one of {', '.join(sorted(ACTIVATIONS))}", lambda one: isinstance(one, str) and one in ACTIVATIONS
)

_EVERY: Mapping[str, _Values] = {
    "bos_token_id": _ID,
    "eos_token_id": _IDS,
    "pad_token_id": _ID,
    "tie_word_embeddings": _SWITCH,
    "initializer_range": _DECIMAL,
    "is_decoder": _SWITCH,
    "add_cross_attention": _SWITCH,
}
_OF_FAMILY: Mapping[str, Mapping[str, _Values]] = {
    "gpt2": {
        "n_inner": _SIZE,
        "activation_function": _ACTIVATION,
        "layer_norm_epsilon": _DECIMAL,
        "scale_attn_weights": _SWITCH,
        "scale_attn_by_inverse_layer_idx": _SWITCH,
        "reorder_and_upcast_attn": _SWITCH,
    },
    "llama": {
        "num_key_value_heads": _SIZE,
        "head_dim": _SIZE,
        "hidden_act": _ACTIVATION,
        "rms_norm_eps": _DECIMAL,
        "attention_bias": _SWITCH,
        "mlp_bias": _SWITCH,
        "initializer_range": _SHARE,
        "rope_theta": _ABOVE_0,
    },
    "bert": {"hidden_act": _ACTIVATION, "layer_norm_eps": _DECIMAL},
    "roberta": {"hidden_act": _ACTIVATION, "layer_norm_eps": _DECIMAL},
}


def refuse_values(config: Mapping[str, Any]) -> None:
    """Refuse a config of a known ``model_type`` with a value that no model can be built from.

    Raises
    ------
    ScenarioError
        With the first entry at fault, what it holds, and what it may hold.
    """
    for name in ("quantization_config", "compression_config"):
        if config.get(name) is not None:
            raise ScenarioError(
                f"model config: {name} is there: the weights are quantised, and only float32, float16 and "
                "bfloat16 can be trained on; use the checkpoint it was made from"
            )
    family = str(config["model_type"])
    for name, values in {**_EVERY, **_OF_FAMILY.get(family, {})}.items():
        if name in config:
            _refuse(name, config[name], values)
    if family == "roberta":
        _refuse_padding(config)
    if family == "llama":
        for name in ("rope_scaling", "rope_parameters"):
            _refuse_rope(name, config.get(name))


def _refuse(name: str, value: Any, values: _Values) -> None:
    if value is None and values.may_be_null:
        return
    if not values.fits(value):
        out = " or left out" if value is None else ""
        raise ScenarioError(f"model config: {name} must be {values.words}{out}, got {shown(value)}")


def _refuse_padding(config: Mapping[str, Any]) -> None:
    """Refuse a RoBERTa without a padding id: it counts positions from there on."""
    pad = config.get("pad_token_id", 1)
    if not (_is_whole(pad) and pad >= 0):
        raise ScenarioError(
            f"model config: pad_token_id must be the number of a token, got {shown(pad)}: a roberta model "
            "counts positions from it on; mostly it is 1"
        )


def _refuse_rope(name: str, value: Any) -> None:
    """Refuse rotary positions of a type, or with numbers, that cannot be computed."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise ScenarioError(f"model config: {name} must be a table or null, got {shown(value)}")
    kind = value.get("rope_type", value.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPE_NEEDS:
        raise ScenarioError(f"model config: {name} is of type {shown(kind)}; known: {', '.join(_ROPE_NEEDS)}")
    for key in (*_ROPE_NEEDS[kind], *(one for one in ("rope_theta",) if one in value)):
        _refuse(f"{name}.{key}", value.get(key), _ABOVE_0)


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the entries that decide nothing here."""
    model_type = config.get("model_type")
    if model_type not in _OF_FAMILY:  # computed by code of others, which may read any entry
        idle = WITHOUT_SAY - {"layer_types"}
    else:
        idle = WITHOUT_SAY if model_type == "llama" else WITHOUT_SAY.union(_ROPE)
    return {name: value for name, value in config.items() if name not in idle}


def not_of_json(value: Any, place: str = "") -> Iterator[str]:
    """Return where a value is none that a config.json could hold, such as a date, and what is there."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from not_of_json(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from not_of_json(inner, f"{place}[{number}]")
    elif isinstance(value, float) and not isfinite(value):
        yield f"{place} is {value}, which is no number"
    elif value is not None and not isinstance(value, str | int | float):
        yield f"{place} is a {type(value).__name__} ({shown(value)})"


def shown(value: Any) -> str:
    """Return a value of a config as a message repeats it."""
    return "null" if value is None else quoted(value)
