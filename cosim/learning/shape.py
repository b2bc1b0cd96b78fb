"""The shape of a model, read from its Hugging Face ``config.json`` without loading torch.

Everything the time plane needs to know about a model before a tensor exists
follows from here: how many weights a side holds, how wide the activations are,
which linear layers a block has and which of them an adapter goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, get_args

from cosim.errors import ScenarioError, quoted
from cosim.learning.architectures import FAMILIES, Architecture
from cosim.learning.architectures import ModelTask as ModelTask
from cosim.learning.config_values import LARGEST, refuse_values, shown

Factor = Literal["A", "B"]
"""One of the two factors of an adapter: A takes the layer's inputs, B gives its outputs."""

BOTH_FACTORS: frozenset[Factor] = frozenset({"A", "B"})

ALL_LINEAR = "all-linear"
"""The one target that names every linear layer of a block, as PEFT writes it."""


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block; ``name`` is its dotted path inside the block."""

    name: str
    d_in: int
    d_out: int
    has_bias: bool

    @property
    def num_weights(self) -> int:
        """Weights and biases."""
        return self.d_out * (self.d_in + self.has_bias)


_OTHER_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
_UNCUTTABLE = {"add_cross_attention": "cross-attention", "is_decoder": "a causal BERT"}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model for one task; build it with :meth:`read`.

    Attributes
    ----------
    family
        ``model_type`` of the config: bert, gpt2, llama or roberta.
    task, num_labels
        What the model is used for; ``num_labels`` is 0 for a causal model.
    num_layers, hidden_size, num_heads, head_dim, num_key_value_heads
        Blocks; width of the activations; attention heads, their width, and how
        many of them have keys and values of their own.
    vocab_size, max_positions
        Tokens; longest sequence the position embeddings reach.
    queries_keys_values, attention_output, mlp_inputs, mlp_output
        The linear layers of a block by their place in it; GPT-2 has one fused
        layer for queries, keys and values, named three times.
    embedding_tables
        Names in the inner model of the tables in front of the blocks, with their rows.
    embedding_weights, block_weights, head_weights
        Parameters in front of the blocks, of one block, and behind the blocks;
        a head tied to the embedding counts once, in front.
    trained_head_weights
        Those of ``head_weights`` that are trained in full beside the adapters:
        the classifier, as PEFT has it for sequence classification.
    blocks
        The shape that holds inside each block, where blocks differ; see :meth:`at`.
    """

    family: str
    task: ModelTask
    num_labels: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    queries_keys_values: tuple[Linear, Linear, Linear]
    attention_output: Linear
    mlp_inputs: tuple[Linear, ...]
    mlp_output: Linear
    embedding_tables: tuple[tuple[str, int], ...]
    embedding_weights: int
    block_weights: int
    head_weights: int
    trained_head_weights: int
    has_tied_head: bool
    blocks: tuple["ModelShape", ...] = ()

    @classmethod
    def read(
        cls, config: Mapping[str, Any], task: ModelTask = "causal_lm", num_labels: int = 0
    ) -> "ModelShape":
        """Return the shape a Hugging Face config describes.

        Parameters
        ----------
        config
            Contents of ``config.json``; a size it leaves out takes the default of transformers.
        task, num_labels
            What the model is used for, and among how many labels a classifier chooses.

        Raises
        ------
        ScenarioError
            If the architecture is not one of :data:`~cosim.learning.architectures.FAMILIES`, cannot do the
            task, or a size makes no sense.
        ValueError
            If ``num_labels`` does not fit the task.

        Examples
        --------
        >>> gpt2_small = ModelShape.read({"model_type": "gpt2"})
        >>> gpt2_small.num_layers, gpt2_small.hidden_size, gpt2_small.num_weights
        (12, 768, 124439808)
        """
        family = _family(config, task)
        if (task == "classification") != (num_labels > 0):
            raise ValueError(f"a {task} model cannot have {num_labels} labels")
        width = _size(config, family, "hidden_size")
        heads = _size(config, family, "num_attention_heads")
        if width % heads:
            raise ScenarioError(
                f"model config: hidden_size {width} cannot be shared by {heads} attention heads; "
                "it must be a multiple of num_attention_heads"
            )
        key_value_heads = config.get("num_key_value_heads") or heads
        if heads % key_value_heads:
            raise ScenarioError(
                f"model config: {heads} attention heads cannot share {key_value_heads} key and value heads; "
                "num_attention_heads must be a multiple of num_key_value_heads"
            )
        linears = _linears(config, family, width, heads, key_value_heads)
        vocab = _size(config, family, "vocab_size")
        positions = _size(config, family, "max_position_embeddings")
        model_type = config["model_type"]
        is_llama, is_bert = model_type == "llama", model_type in ("bert", "roberta")
        norm = width if is_llama else 2 * width  # an RMS norm has no bias
        rows_of = {"embed_tokens": vocab, "word_embeddings": vocab, "wte": vocab}
        rows_of |= {"position_embeddings": positions, "wpe": positions}
        rows_of |= {"token_type_embeddings": _size(config, family, "type_vocab_size")} if is_bert else {}
        tables = tuple((name, rows_of[name.rpartition(".")[2]]) for name in family.embedding_tables)
        tied = task == "causal_lm" and bool(
            config.get("tie_word_embeddings", family.defaults.get("tie_word_embeddings"))
        )
        dense = width * (width + 1)  # BERT's pooler, or the first layer of RoBERTa's classifier
        classifier = num_labels * (width + is_bert) + (dense if model_type == "roberta" else 0)
        head = (0 if is_bert else norm) + (dense if model_type == "bert" else 0) + classifier
        if task == "causal_lm" and not tied:
            head += vocab * width
        queries_keys_values = (
            linears[family.queries_keys_values[0]],
            linears[family.queries_keys_values[1]],
            linears[family.queries_keys_values[2]],
        )
        return cls(
            family=model_type,
            task=task,
            num_labels=num_labels,
            num_layers=_size(config, family, "num_hidden_layers"),
            hidden_size=width,
            num_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=_head_dim(config, width, heads),
            vocab_size=vocab,
            # RoBERTa counts positions from its padding id on
            max_positions=positions - (config.get("pad_token_id", 1) + 1 if model_type == "roberta" else 0),
            queries_keys_values=queries_keys_values,
            attention_output=linears[family.attention_output],
            mlp_inputs=tuple(linears[name] for name in family.mlp_inputs),
            mlp_output=linears[family.mlp_output],
            embedding_tables=tables,
            embedding_weights=sum(rows for _, rows in tables) * width + (norm if is_bert else 0),
            block_weights=2 * norm + sum(linear.num_weights for linear in linears.values()),
            head_weights=head,
            trained_head_weights=classifier,
            has_tied_head=tied,
        )

    def at(self, block: int) -> "ModelShape":
        """Return the shape that holds inside a block; blocks count from 1."""
        return self.blocks[block - 1] if self.blocks else self

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, in the order of the forward pass, each once."""
        layers = (*self.queries_keys_values, self.attention_output, *self.mlp_inputs, self.mlp_output)
        return tuple(dict.fromkeys(layers))

    @property
    def behind_norms(self) -> tuple[Linear, ...]:
        """The linear layers of a block whose input is the output of one of its norms."""
        begins_with_norm = bool(FAMILIES[self.family].final_norm)  # such blocks need one behind the last
        return (*(self.queries_keys_values if begins_with_norm else ()), *self.mlp_inputs)

    @property
    def inner_name(self) -> str:
        """The module of the model, as transformers calls it, that has all but the head."""
        return FAMILIES[self.family].blocks.partition(".")[0]

    def block_name(self, block: int) -> str:
        """Return the name of a block's module in the model; blocks count from 1."""
        return f"{FAMILIES[self.family].blocks}.{block - 1}"

    @property
    def num_weights(self) -> int:
        """Parameters of the whole pre-trained model, its task head included, without adapters."""
        return self.embedding_weights + self.weights_of(1, self.num_layers) + self.head_weights

    def weights_of(self, first_block: int, last_block: int) -> int:
        """Return the parameters of some blocks, the last one included."""
        return sum(self.at(block).block_weights for block in range(first_block, last_block + 1))

    @property
    def default_targets(self) -> tuple[str, ...]:
        """The layers an adapter goes on when the scenario names none."""
        return FAMILIES[self.family].default_targets

    def targets(self, names: tuple[str, ...]) -> tuple[Linear, ...]:
        """Return the layers of a block that these names mean, in the order of the forward pass.

        PEFT's rule for a list of names: a layer is meant by its dotted path in
        the block or by any tail of it that begins after a dot. Adapters live in
        the blocks only, so a name of a layer outside of them matches nothing.

        Raises
        ------
        ScenarioError
            If a name matches no layer.

        Examples
        --------
        >>> shape = ModelShape.read({"model_type": "gpt2"})
        >>> [linear.name for linear in shape.targets(("c_proj",))]
        ['attn.c_proj', 'mlp.c_proj']
        """
        if names == (ALL_LINEAR,):
            return self.linears
        if names not in self._known_targets:  # asked for at every layer of every step
            self._known_targets[names] = _meant(self.linears, names)
        found, unknown = self._known_targets[names]
        if unknown:
            raise ScenarioError(self._no_such_target(unknown[0]))
        return found

    @cached_property
    def _known_targets(self) -> dict[tuple[str, ...], tuple[tuple[Linear, ...], tuple[str, ...]]]:
        """Layers that names meant before, and names that meant none."""
        return {}

    def _no_such_target(self, name: str) -> str:
        known = sorted({linear.name.rpartition(".")[2] for linear in self.linears})
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (
            f"lora.target_modules: a {self.family} block has no layer {quoted(name)}; "
            f"known: {', '.join(known)}, or {ALL_LINEAR!r}{hint}"
        )


def check_cut(shape: ModelShape, cut_layer: int) -> None:
    """Raise a ValueError if a cut leaves one side without a block."""
    if not 1 <= cut_layer < shape.num_layers:
        raise ValueError(
            f"cut_layer {cut_layer} leaves one side without a block; "
            f"a model of {shape.num_layers} layers can be cut at 1 to {shape.num_layers - 1}"
        )


def _meant(linears: tuple[Linear, ...], names: tuple[str, ...]) -> tuple[tuple[Linear, ...], tuple[str, ...]]:
    """Return the layers that are meant, and the names that mean none."""
    places = [f".{linear.name}" for linear in linears]
    found = tuple(
        one
        for one, place in zip(linears, places, strict=True)
        if place.endswith(tuple(f".{n}" for n in names))
    )
    return found, tuple(name for name in names if not any(place.endswith(f".{name}") for place in places))


def _family(config: Mapping[str, Any], task: ModelTask) -> Architecture:
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
    return family


def _size(config: Mapping[str, Any], family: Architecture, key: str) -> int:
    """Return a positive whole number of the config, under either of its names."""
    value = config.get(key, config.get(_OTHER_NAMES.get(key, key), family.defaults.get(key)))
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScenarioError(f"model config: {key} must be a whole number above 0, got {shown(value)}")
    if value > LARGEST:
        raise ScenarioError(f"model config: {key} must be at most {LARGEST}, got {shown(value)}")
    return value


def _head_dim(config: Mapping[str, Any], width: int, heads: int) -> int:
    if config["model_type"] == "llama":
        return int(config.get("head_dim") or width // heads)
    return width // heads


def _linears(
    config: Mapping[str, Any], family: Architecture, width: int, heads: int, key_value_heads: int
) -> dict[str, Linear]:
    """Return the linear layers of a block by name, in the order of the forward pass."""
    head_dim = _head_dim(config, width, heads)
    has_own_bias = config["model_type"] != "llama"
    attention_bias = has_own_bias or bool(config.get("attention_bias", False))
    mlp_bias = has_own_bias or bool(config.get("mlp_bias", False))
    if config["model_type"] == "gpt2":
        mlp_width = config.get("n_inner") or 4 * width
    else:
        mlp_width = _size(config, family, "intermediate_size")
    query, key, value = family.queries_keys_values
    if query == key:
        into = {query: 3 * width}
    else:
        into = {query: heads * head_dim, key: key_value_heads * head_dim, value: key_value_heads * head_dim}
    layers = [Linear(name, width, d_out, attention_bias) for name, d_out in into.items()]
    layers.append(Linear(family.attention_output, heads * head_dim, width, attention_bias))
    layers += [Linear(name, width, mlp_width, mlp_bias) for name in family.mlp_inputs]
    layers.append(Linear(family.mlp_output, mlp_width, width, mlp_bias))
    return {layer.name: layer for layer in layers}
