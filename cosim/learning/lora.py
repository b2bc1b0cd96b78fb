"""Settings of the low-rank adapters, and their translation into PEFT's."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.shape import BOTH_FACTORS, ModelShape
from cosim.parts import Table

if TYPE_CHECKING:
    from peft import LoraConfig

_ALPHA_PER_RANK = 8.0  # a constant alpha / rank keeps the learning rate comparable across ranks

_HEADS = {
    "bert": ("classifier.weight", "classifier.bias"),
    "gpt2": ("score.weight",),
    "llama": ("score.weight",),
    "roberta": tuple(
        f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")
    ),
}


class Lora(Table):
    """Low-rank adapters on linear layers of the blocks, by PEFT.

    Attributes
    ----------
    rank
        Inner size of the two factors.
    alpha
        The update is scaled by ``alpha / rank``; without it, alpha is 8 times the rank.
    dropout
        Share of a layer's input that its adapter does not see while training.
    target_modules
        Layers of a block that get an adapter, each by its name or any dotted tail of
        it, or ``["all-linear"]``; without it ``c_attn`` for GPT-2, ``q_proj`` and
        ``v_proj`` for Llama, ``query`` and ``value`` for BERT and RoBERTa.
    blocks
        Blocks that get adapters, counted from 1; without it, all do. A client that
        keeps only blocks without one trains nothing: it sends activations, gets no
        gradient back, and has no adapter to be averaged.

    Source
    ------
    E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022.
    """

    rank: int = Field(default=4, gt=0)
    alpha: float | None = Field(default=None, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)

    @property
    def scaling_alpha(self) -> float:
        """The alpha in force."""
        return _ALPHA_PER_RANK * self.rank if self.alpha is None else self.alpha

    def targets(self, shape: ModelShape) -> tuple[str, ...]:
        """Return the layers that get an adapter, by their dotted paths inside a block.

        Raises
        ------
        ScenarioError
            If a name of ``target_modules`` matches no layer.
        """
        names = shape.default_targets if self.target_modules is None else self.target_modules
        return tuple(linear.name for linear in shape.targets(names))

    def adapted_blocks(self, shape: ModelShape) -> frozenset[int]:
        """Return the blocks that get adapters, counted from 1.

        Raises
        ------
        ScenarioError
            If the model has no such block.
        """
        every = frozenset(range(1, shape.num_layers + 1))
        chosen = every if self.blocks is None else frozenset(self.blocks)
        if not chosen <= every:
            raise ScenarioError(
                f"lora.blocks: the model has no block {min(chosen - every)}; "
                f"its blocks are 1 to {shape.num_layers}."
            )
        return chosen

    def trained_names(self, shape: ModelShape) -> frozenset[str]:
        """Return the names, as PEFT saves them, of all that is trained: two factors a layer, and a head."""
        names = {
            f"base_model.model.{shape.block_name(block)}.{layer}.lora_{factor}.weight"
            for block in self.adapted_blocks(shape)
            for layer in self.targets(shape)
            for factor in BOTH_FACTORS
        }
        if shape.task == "classification":
            names |= {f"base_model.model.{name}" for name in _HEADS[shape.family]}
        return frozenset(names)

    def deciding(self, rank: int) -> dict[str, Any]:
        """Return what of these settings decides values at a rank, for the key of what is trained."""
        settings = self.model_dump(mode="json") | {"rank": rank}
        if self.blocks is None:  # younger than keys that are in stores already
            del settings["blocks"]
        return settings

    def peft_config(self, shape: ModelShape, base_name: str) -> "LoraConfig":
        """Return PEFT's settings for these adapters on a model called ``base_name``.

        Layers are handed over by their whole path in a block: the tail
        ``dense`` alone would also catch BERT's pooler, which no block holds.
        """
        from peft import LoraConfig

        settings: dict[str, Any] = {}
        if self.blocks is not None:
            settings["layers_to_transform"] = [block - 1 for block in sorted(self.adapted_blocks(shape))]
        if shape.task == "classification":
            settings["modules_to_save"] = ["classifier" if shape.family in ("bert", "roberta") else "score"]
        return LoraConfig(
            task_type="CAUSAL_LM" if shape.task == "causal_lm" else "SEQ_CLS",
            base_model_name_or_path=base_name,
            r=self.rank,
            lora_alpha=self.scaling_alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.targets(shape)),
            fan_in_fan_out=shape.family == "gpt2",  # GPT-2 stores its linear layers transposed
            bias="none",
            **settings,
        )
