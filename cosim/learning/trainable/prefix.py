"""Keys and values in front of every sequence, in the attention of chosen blocks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.architectures import OURS
from cosim.learning.parameters import Parameter, classifier_of
from cosim.learning.shape import Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Prefix(Trainable):
    """``num_tokens`` trained keys and values in the attention of each chosen block; the model stays as it is.

    Every position sees them. Positions of a sequence count from ``num_tokens`` on, as in PEFT and
    transformers, so a sequence may be that much shorter. A classifier's head is trained beside them.

    Where all blocks of a causal model have prefixes the files are those of PEFT's ``PrefixTuningConfig``;
    where some have none, which PEFT cannot say, tensors are saved by their names here.

    Attributes
    ----------
    num_tokens
        Keys, and values, of a block.
    blocks
        Blocks that have prefixes, counted from 1; without it, all do.
    initial_std
        They start as normal numbers of this deviation.

    Source
    ------
    X. L. Li, P. Liang, "Prefix-tuning: optimizing continuous prompts for generation", ACL 2021, without its
    network in front of the prefixes, as X. Liu et al., "P-tuning v2", ACL 2022, have it.
    """

    is_added: ClassVar[bool] = True
    folder: ClassVar[Literal["adapter", "model"]] = "adapter"
    takes_transformers: ClassVar[bool] = False

    kind: Literal["prefix"] = "prefix"
    num_tokens: int = Field(default=10, gt=0, le=10_000)
    blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    initial_std: float = Field(default=0.02, ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"num_tokens": 4}, {"num_tokens": 2, "blocks": [2, 3]})

    def fitted(self, shape: ModelShape) -> ModelShape:
        """Return the shape with as many positions fewer."""
        return replace(shape, max_positions=max(shape.max_positions - self.num_tokens, 0))

    def check(self, shape: ModelShape, dtype: str, *, is_cut: bool) -> None:
        """Refuse blocks that the model does not have, or that are not ours to put prefixes into."""
        self.chosen_blocks(shape)
        if not shape.names.has_blocks_of_ours:
            raise ScenarioError(
                f"trainable.kind: 'prefix' changes attention, and that of a model of {shape.family!r} "
                f"is computed by code of transformers, which takes none; train [lora], or take one of {OURS}."
            )

    def chosen_blocks(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the blocks that have prefixes, ascending.

        Raises
        ------
        ScenarioError
            If the model has no such block.
        """
        every = range(1, shape.num_layers + 1)
        chosen = every if self.blocks is None else sorted(set(self.blocks))
        if missing := set(chosen).difference(every):
            raise ScenarioError(
                f"trainable.blocks: the model has no block {min(missing)}; "
                f"its blocks are 1 to {shape.num_layers}."
            )
        return tuple(chosen)

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return keys and values of each block, and the head of a classifier."""
        size = self.num_tokens, shape.num_key_value_heads * shape.head_dim
        return (
            *(
                Parameter(f"{shape.block_name(block)}.prefix.{what}", size, block, "prefix")
                for block in self.chosen_blocks(shape)
                for what in ("keys", "values")
            ),
            *classifier_of(shape),
        )

    def num_prefix_tokens(self, shape: ModelShape, block: int) -> int:
        """Return the number of tokens in the chosen blocks."""
        return self.num_tokens if block in self.chosen_blocks(shape) else 0

    @property
    def first_position(self) -> int:
        """The number of tokens."""
        return self.num_tokens

    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Neither."""
        return False

    def play_linear(
        self,
        tape: Tape,
        shape: ModelShape,
        block: int,
        linear: Linear,
        rows: int,
        x: bool,
        factors: Collection[Factor],
    ) -> bool:
        """Charge the frozen layer."""
        return tape.dense(rows, linear.d_in, linear.d_out, x)

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Put prefixes into the blocks, beside their layers."""
        from cosim.learning.families.prefixed import PrefixVectors

        heads = {one.name for one in classifier_of(shape)}
        for name, weights in model.named_parameters():
            weights.requires_grad_(name in heads)
        like = next(iter(model.parameters()))
        size = self.num_tokens, shape.num_key_value_heads * shape.head_dim
        for block in self.chosen_blocks(shape):
            model.get_submodule(shape.block_name(block)).add_module("prefix", PrefixVectors(size, like))
        model.prefix_settings = self._peft_settings(shape, base_name)
        return model, model

    def initial(self, name: str, weights: "Tensor", generator: "torch.Generator") -> "Tensor":
        """Return normal numbers, float32 on the CPU."""
        import torch

        drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float32)
        return drawn * self.initial_std

    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return PEFT's files where it can say what was trained, else the tensors by their names."""
        from cosim.learning.adapter_files import adapter_files, packed

        settings = model.prefix_settings
        if settings is None:
            return {"prefixes.safetensors": packed(tensors)}
        import torch

        # of each token: keys of the first block, its values, keys of the second, ...
        found = [one.detach().cpu() for name, one in tensors.items() if ".prefix." in name]
        return adapter_files(settings, {"prompt_embeddings": torch.cat(found, dim=1)}, {}, labels)

    def _peft_settings(self, shape: ModelShape, base_name: str) -> dict[str, Any] | None:
        """Return what PEFT's ``PrefixTuningConfig`` takes; None where it cannot say what is trained."""
        if shape.task != "causal_lm" or len(self.chosen_blocks(shape)) < shape.num_layers:
            return None
        return {
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "num_virtual_tokens": self.num_tokens,
            "token_dim": shape.num_key_value_heads * shape.head_dim,
            "num_transformer_submodules": 1,
            "num_attention_heads": shape.num_key_value_heads,
            "num_layers": shape.num_layers,
            "encoder_hidden_size": shape.hidden_size,
            "prefix_projection": False,
        }
