"""What the config of a model does not say: names of its modules, and the defaults of transformers.

How the modules are called one after the other is in :mod:`cosim.learning.families`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cosim.errors import ScenarioError

ModelTask = Literal["causal_lm", "classification"]
"""Predict the next token, or one label for the whole sequence."""

Switch = bool | str
"""Yes or no, or the entry of the config that says so."""

NormWidth = Literal["head", "queries", "keys"]


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
    listed
        Linear layers of a block in the model's own order, where that is not the order of the forward pass.
    norms
        Norms of a block, each with the linear layer that the model lists behind it.
    final_norm, pooler
        Behind the blocks, in the inner model.
    classifier
        Its layers, in the whole model; all but the last are as wide as the model.
    default_targets
        Layers that get an adapter where the scenario names none.
    defaults
        Values a config may leave out.
    norm_widths
        What a norm is as wide as where that is not the model: one head, or all queries or keys.
    norm_has_bias, classifier_has_bias, head_has_bias
        Beside their weights.
    qkv_bias, output_bias, mlp_bias
        Whether these linear layers of a block have one.
    stores_inputs_first
        Whether the weights of a block's linear layer are stored as (inputs, outputs).
    entries
        Entries of the config under another name than Llama's.
    former_names
        Patterns of names in checkpoints that the model has under others, one after the other, and those.
    takes_head_dim
        Whether the config may say how wide a head is.
    fuses_gate
        Whether one layer makes the gate of the MLP and what goes through it.
    more_positions
        Rows of the table of positions beyond those that a sequence has.
    is_causal
        Whether a position sees those before it alone; other models classify by their first position.
    is_parallel
        Whether the MLP sees what attention sees.
    has_blocks_of_ours
        Whether a body of :mod:`cosim.learning.families` calls the modules of its blocks one by one. Blocks of
        others are called as a whole: they take no prefixes and cannot be narrowed.
    has_relative_attention
        Whether attention sees distances by learned vectors, as DeBERTa's does.
    norms_outputs
        Whether queries, keys and what is added have norms, and no layer has one in front of it.
    reads_images
        Whether a position is a patch of an image.
    vary
        Returns what a config makes of it, or refuses the config.
    """

    blocks: str
    front: tuple[str, ...]
    queries_keys_values: tuple[str, str, str]
    attention_output: str
    mlp_inputs: tuple[str, ...]
    mlp_output: str
    norms: tuple[tuple[str, str], ...]
    default_targets: tuple[str, ...]
    defaults: Mapping[str, Any] = field(hash=False)
    listed: tuple[str, ...] = ()
    tasks: tuple[ModelTask, ...] = ("causal_lm", "classification")
    final_norm: str = ""
    pooler: str = ""
    classifier: tuple[str, ...] = ("score",)
    norm_widths: Mapping[str, NormWidth] = field(default_factory=dict, hash=False)
    norm_has_bias: bool = True
    classifier_has_bias: bool = False
    head_has_bias: bool = False
    qkv_bias: Switch = True
    output_bias: Switch = True
    mlp_bias: Switch = True
    stores_inputs_first: bool = False
    entries: Mapping[str, str] = field(default_factory=dict, hash=False)
    former_names: tuple[tuple[str, str], ...] = ()
    takes_head_dim: bool = False
    fuses_gate: bool = False
    more_positions: int = 0
    is_causal: bool = True
    is_parallel: bool = False
    has_blocks_of_ours: bool = False
    has_relative_attention: bool = False
    norms_outputs: bool = False
    reads_images: bool = False
    vary: "Callable[[Architecture, Mapping[str, Any]], Architecture] | None" = field(default=None, hash=False)

    def of(self, config: Mapping[str, Any]) -> "Architecture":
        """Return it as a config has it.

        Raises
        ------
        ScenarioError
            If what the config asks for is not known here.
        """
        return self if self.vary is None else self.vary(self, config)

    def entry(self, config: Mapping[str, Any], name: str) -> Any:
        """Return an entry of a config by Llama's name for it, or its default."""
        return config.get(name, config.get(self.entries.get(name, name), self.defaults.get(name)))

    def is_on(self, config: Mapping[str, Any], switch: Switch) -> bool:
        """Return what a switch says under a config."""
        return bool(self.entry(config, switch)) if isinstance(switch, str) else switch


def is_norm(name: str) -> bool:
    """Return whether a module in front of the blocks is a norm, by its name."""
    return name.lower().endswith("norm")


def refuse(config: Mapping[str, Any], name: str, value: Any, what: str) -> None:
    """Refuse a config that asks for something that cannot be cut.

    Raises
    ------
    ScenarioError
        If the entry has this value.
    """
    if config.get(name) == value:
        raise ScenarioError(f"model config: {name} is {value}, and {what} is not known here")
