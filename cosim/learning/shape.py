"""The shape of a model, read from its Hugging Face ``config.json`` without loading torch.

Everything the time plane needs to know about a model before a tensor exists
follows from here: how many weights a side holds, how wide the activations are,
which linear layers a block has and which of them an adapter goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from math import prod
from typing import Any

from cosim.errors import ScenarioError, quoted
from cosim.learning.architectures import Architecture
from cosim.learning.architectures import ModelTask as ModelTask
from cosim.learning.layers import Factor as Factor
from cosim.learning.layers import Linear as Linear
from cosim.learning.layers import Parameter, Patches, RelativeAttention, Weight
from cosim.learning.sizes import (
    family_of,
    front_of,
    head_dim_of,
    key_value_heads_of,
    linears_of,
    patches_of,
    relative_of,
    size_of,
)

BOTH_FACTORS: frozenset[Factor] = frozenset({"A", "B"})

ALL_LINEAR = "all-linear"
"""The one target that names every linear layer of a block, as PEFT writes it."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model for one task; build it with :meth:`read`.

    Attributes
    ----------
    family
        ``model_type`` of the config.
    names
        What its architecture calls its modules.
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
    front
        What is in front of the blocks.
    embedding_weights, block_weights, head_weights
        Parameters in front of the blocks, of one block, and behind the blocks;
        a head tied to the embedding counts once, in front.
    trained_head_weights
        Those of ``head_weights`` that are trained in full beside the adapters:
        the classifier, as PEFT has it for sequence classification.
    blocks
        The shape that holds inside each block, where blocks differ; see :meth:`at`.
    relative
        How attention sees distances, where it does by learned vectors.
    patches
        How it takes images, where it does.
    blocks_see_front
        Whether blocks see parameters in front of them otherwise than through what they compute on, as
        a table of distances.
    listed
        Its parameters in the order of the model, where they were found in the model itself.
    """

    family: str
    names: Architecture
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
    front: tuple[Weight, ...]
    embedding_weights: int
    block_weights: int
    head_weights: int
    trained_head_weights: int
    has_tied_head: bool
    blocks: tuple["ModelShape", ...] = ()
    relative: RelativeAttention | None = None
    patches: Patches | None = None
    blocks_see_front: bool = False
    listed: tuple[Parameter, ...] = ()

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
        names = family_of(config, task)
        if (task == "classification") != (num_labels > 0):
            raise ValueError(f"a {task} model cannot have {num_labels} labels")
        width, heads = size_of(config, names, "hidden_size"), size_of(config, names, "num_attention_heads")
        if width % heads:
            raise ScenarioError(
                f"model config: hidden_size {width} cannot be shared by {heads} attention heads; "
                "it must be a multiple of num_attention_heads"
            )
        key_value_heads = key_value_heads_of(config, names, heads)
        if heads % key_value_heads:
            raise ScenarioError(
                f"model config: {heads} attention heads cannot share {key_value_heads} key and value heads; "
                "num_attention_heads must be a multiple of num_key_value_heads"
            )
        head_dim = head_dim_of(config, names, width, heads)
        linears = linears_of(config, names, width, heads * head_dim, key_value_heads * head_dim)
        queries, keys, values = (linears[name] for name in names.queries_keys_values)
        vocab, patches = size_of(config, names, "vocab_size"), patches_of(config, names)
        positions = patches.count + 1 if patches else size_of(config, names, "max_position_embeddings")
        front, relative = front_of(config, names, width), relative_of(config, names, keys, queries)
        tied = task == "causal_lm" and bool(names.entry(config, "tie_word_embeddings"))
        has_bias, kinds = names.classifier_has_bias, 1 + names.norm_has_bias
        classifier = (len(names.classifier) - 1) * width * (width + has_bias) if num_labels else 0
        classifier += num_labels * (width + has_bias)
        head = (kinds * width if names.final_norm else 0) + classifier
        head += width * (width + 1) if names.pooler else 0
        if task == "causal_lm":
            head += vocab * ((0 if tied else width) + names.head_has_bias)
        made = cls(
            family=config["model_type"],
            names=names,
            task=task,
            num_labels=num_labels,
            num_layers=size_of(config, names, "num_hidden_layers"),
            hidden_size=width,
            num_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=head_dim,
            vocab_size=vocab,
            # RoBERTa counts positions from its padding id on
            max_positions=positions
            - (config.get("pad_token_id", 1) + 1 if config["model_type"] == "roberta" else 0),
            queries_keys_values=(queries, keys, values),
            attention_output=linears[names.attention_output],
            mlp_inputs=tuple(linears[name] for name in names.mlp_inputs),
            mlp_output=linears[names.mlp_output],
            front=front,
            embedding_weights=sum(prod(one.shape) for one in front),
            block_weights=sum(one.num_weights for one in linears.values()),
            head_weights=head,
            trained_head_weights=classifier,
            has_tied_head=tied,
            relative=relative,
            patches=patches,
            blocks_see_front=relative is not None,
        )
        norms = kinds * sum(made.norm_width(name) for name, _ in names.norms)
        return replace(made, block_weights=made.block_weights + norms)

    def at(self, block: int) -> "ModelShape":
        """Return the shape that holds inside a block; blocks count from 1."""
        return self.blocks[block - 1] if self.blocks else self

    def norm_width(self, name: str) -> int:
        """Return how wide a norm of a block is."""
        queries, heads = self.num_heads * self.head_dim, self.num_key_value_heads
        widths = {"head": self.head_dim, "queries": queries, "keys": heads * self.head_dim}
        return widths.get(self.names.norm_widths.get(name, ""), self.hidden_size)

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, each once, in the order of the forward pass or of the model."""
        relative = () if self.relative is None else (self.relative.keys, self.relative.queries)
        attention = (*self.queries_keys_values, *relative, self.attention_output)
        layers = (*attention, *self.mlp_inputs, self.mlp_output)
        listed = {name: place for place, name in enumerate(self.names.listed)}
        return tuple(sorted(dict.fromkeys(layers), key=lambda one: listed.get(one.name, len(listed))))

    @property
    def behind_norms(self) -> tuple[Linear, ...]:
        """The linear layers of a block whose input is the output of one of its norms."""
        begins_with_norm = bool(self.names.final_norm)  # such blocks need one behind the last
        return (*(self.queries_keys_values if begins_with_norm else ()), *self.mlp_inputs)

    @property
    def inner_name(self) -> str:
        """The module of the model, as transformers calls it, that has all but the head."""
        return self.names.blocks.partition(".")[0]

    def block_name(self, block: int) -> str:
        """Return the name of a block's module in the model; blocks count from 1."""
        return f"{self.names.blocks}.{block - 1}"

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
        return self.names.default_targets

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
