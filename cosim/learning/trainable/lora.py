"""Low-rank adapters, in PEFT's names and files."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.parameters import PEFT, Parameter, classifier_of
from cosim.learning.shape import Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MAGNITUDE = ".lora_magnitude_vector"
_ALPHA_PER_RANK = 8.0  # a constant alpha / rank keeps the learning rate comparable across ranks


class Lora(Trainable):
    """Low-rank adapters on linear layers of the blocks.

    Attributes
    ----------
    rank
        Inner size of the two factors.
    alpha
        The update is scaled by ``alpha / rank``; without it, alpha is 8 times the rank.
    use_rslora
        Scale by ``alpha`` over the square root of the rank, so that updates of a high rank do not fade.
    use_dora
        Train the direction of a layer's weights by the adapter, and the norms of their rows, one number for
        each output, beside it: ``m (W + s B A) / ||W + s B A||``. No gradient flows through the norm, as
        in PEFT. Every pass forms ``B A`` of each layer, which is charged; what is kept more for the
        way back is each layer's output before it is scaled. Dropout reaches the adapter alone; in PEFT also
        ``(m / norm - 1) W``, a second product with the frozen weights of the same mean.
    dropout
        Share of a layer's input that its adapter does not see while training.
    target_modules
        Layers of a block that get an adapter, each by its name or any dotted tail of
        it, or ``["all-linear"]``; without it those that ``cosim parts model_type`` lists, such as
        ``c_attn`` for GPT-2, ``q_proj`` and ``v_proj`` for Llama.
    blocks
        Blocks that get adapters, counted from 1; without it, all do. A client that
        keeps only blocks without one trains nothing: it sends activations, gets no
        gradient back, and has no adapter to be averaged.

    Source
    ------
    E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022;
    D. Kalajdzievski, "A rank stabilization scaling factor for fine-tuning with LoRA", 2023;
    S.-Y. Liu et al., "DoRA: weight-decomposed low-rank adaptation", ICML 2024, arXiv 2402.09353, section 4.3.
    """

    has_factors: ClassVar[bool] = True
    is_added: ClassVar[bool] = True
    folder: ClassVar[Literal["adapter", "model"]] = "adapter"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"use_dora": True})
    takes_transformers: ClassVar[bool] = False

    # not written out: ``[lora]`` is this table
    kind: Literal["lora"] = Field(default="lora", exclude=True)
    rank: int = Field(default=4, gt=0)
    alpha: float | None = Field(default=None, gt=0.0)
    use_rslora: bool = False
    use_dora: bool = False
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)

    @property
    def lora_rank(self) -> int:
        """The rank."""
        return self.rank

    @property
    def scaling_alpha(self) -> float:
        """The alpha that holds."""
        return _ALPHA_PER_RANK * self.rank if self.alpha is None else self.alpha

    @property
    def scaling(self) -> float:
        """Alpha over the rank, or over its square root."""
        return self.scaling_alpha / (sqrt(self.rank) if self.use_rslora else self.rank)

    @property
    def drops(self) -> bool:
        """With any dropout."""
        return self.dropout > 0.0

    @property
    def adds_products(self) -> bool:
        """With no magnitudes, which scale products and weights."""
        return not self.use_dora

    def of_rank(self, lora_rank: int) -> Self:
        """Return the same adapters at another rank."""
        return self.model_copy(update={"rank": lora_rank})

    def check(self, shape: ModelShape, dtype: str, *, is_cut: bool) -> None:
        """Refuse target modules and blocks that the model does not have."""
        self.targets(shape)
        self.adapted_blocks(shape)

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
        return _chosen(self.blocks, shape.num_layers)

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return what each layer has, and the head of a classifier, by the names PEFT saves them by."""
        found, names = [], self.targets(shape)
        for block in sorted(self.adapted_blocks(shape)):
            for linear in shape.at(block).targets(names):
                name = f"{PEFT}.{shape.block_name(block)}.{linear.name}"
                if self.use_dora:
                    found.append(Parameter(f"{name}{_MAGNITUDE}", (linear.d_out,), block, "magnitude"))
                found.append(
                    Parameter(f"{name}.lora_A.weight", (self.rank, linear.d_in), block, "A"),
                )
                found.append(Parameter(f"{name}.lora_B.weight", (linear.d_out, self.rank), block, "B"))
        heads = (one._replace(name=f"{PEFT}.{one.name}") for one in classifier_of(shape))
        return (*found, *heads)

    def matrices(self, shape: ModelShape, num_blocks: int) -> tuple[Linear, ...]:
        """Return the adapted layers of the first blocks."""
        adapted = [block for block in sorted(self.adapted_blocks(shape)) if block <= num_blocks]
        names = self.targets(shape)
        return tuple(one for block in adapted for one in shape.at(block).targets(names))

    def first_block(self, shape: ModelShape) -> int:
        """Return the first adapted block."""
        return min(self.adapted_blocks(shape))

    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Neither: adapters are in the blocks only."""
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
        """Charge the frozen layer, and two narrow ones beside it where it is adapted.

        With magnitudes the product of the factors too, which is formed for the norms alone.
        """
        out = tape.dense(rows, linear.d_in, linear.d_out, x)
        if block not in self.adapted_blocks(shape) or linear not in shape.targets(self.targets(shape)):
            return out
        low = tape.dense(rows, linear.d_in, self.rank, x, is_trained="A" in factors)
        out = tape.dense(rows, self.rank, linear.d_out, low, is_trained="B" in factors) or out
        if self.use_dora:
            tape.product(2 * linear.d_out * self.rank * linear.d_in, left=False, right=False)
        return out or self.use_dora

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return the outputs of adapted layers before their magnitudes scale them, where there are any."""
        return self.use_dora * sum(one.d_out for one in shape.targets(self.targets(shape)))

    def layers(self, shape: ModelShape) -> dict[str, str]:
        """Return the adapted layers with the names of A; none where magnitudes scale them."""
        if self.use_dora:
            return {}
        found = (one.name for one in self.parameters(shape) if one.factor == "A")
        return {name.removeprefix(f"{PEFT}.").removesuffix(".lora_A.weight"): name for name in found}

    def changes(
        self, tensors: "Mapping[str, Tensor]", merged: "Mapping[str, Tensor]", shape: ModelShape
    ) -> "dict[str, Tensor]":
        """Return the scaled products, and what is merged beside them."""
        found = {}
        for layer, name in self.layers(shape).items():
            product = self.scaling * (tensors[name.replace(".lora_A.", ".lora_B.")] @ tensors[name])
            found[layer] = product + merged[name] if name in merged else product
        return found

    def deciding(self, lora_rank: int) -> dict[str, Any]:
        """Return the settings at a rank."""
        settings = self.model_dump(mode="json") | {"rank": lora_rank}
        for name in ("blocks", "use_rslora", "use_dora"):  # younger than keys that are in stores already
            if not settings[name]:
                del settings[name]
        return settings

    def peft_settings(self, shape: ModelShape, base_name: str) -> dict[str, Any]:
        """Return what PEFT's ``LoraConfig`` takes for these adapters on a model called ``base_name``.

        Layers are handed over by their whole path in a block: the tail
        ``dense`` alone would also catch BERT's pooler, which no block holds.
        """
        settings: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM" if shape.task == "causal_lm" else "SEQ_CLS",
            "base_model_name_or_path": base_name,
            "r": self.rank,
            "lora_alpha": self.scaling_alpha,
            "lora_dropout": self.dropout,
            "target_modules": list(self.targets(shape)),
            "fan_in_fan_out": shape.names.stores_inputs_first,
            "bias": "none",
        }
        settings |= {name: True for name in ("use_rslora", "use_dora") if getattr(self, name)}
        if self.blocks is not None:
            settings["layers_to_transform"] = [block - 1 for block in sorted(self.adapted_blocks(shape))]
        if shape.task == "classification":
            settings["modules_to_save"] = list(
                dict.fromkeys(one.partition(".")[0] for one in shape.names.classifier)
            )
        return settings

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Return the model under PEFT's names, with adapters of our own; PEFT takes seconds to load."""
        from cosim.learning.lora_layer import add_lora

        layers = [
            f"{shape.block_name(block)}.{linear.name}"
            for block in sorted(self.adapted_blocks(shape))
            for linear in shape.targets(self.targets(shape))
        ]
        heads = {one.name for one in classifier_of(shape)}
        settings = self.peft_settings(shape, base_name)
        wrapped = add_lora(
            model,
            layers,
            heads,
            rank=self.rank,
            scaling=self.scaling,
            dropout=self.dropout,
            has_magnitudes=self.use_dora,
            fan_in_fan_out=settings["fan_in_fan_out"],
        )
        wrapped.peft_settings = settings
        return wrapped, model

    def initial(self, name: str, weights: "Tensor", generator: "torch.Generator") -> "Tensor":
        """Return A uniform as PEFT draws it, and B zero, float32 on the CPU; magnitudes as they are."""
        import torch

        if name.endswith(_MAGNITUDE):
            return weights.clone()
        values = torch.zeros(weights.shape, dtype=torch.float32)
        if ".lora_A." not in name:
            return values
        bound = 1.0 / sqrt(weights.shape[1])  # Kaiming uniform with a = sqrt(5)
        return values.uniform_(-bound, bound, generator=generator)

    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return PEFT's own files; what is merged into the base is one beside them, with a text."""
        from cosim.learning.adapter_files import adapter_files

        return adapter_files(model.peft_settings, tensors, merged, labels)


@cache
def _chosen(blocks: tuple[int, ...] | None, num_layers: int) -> frozenset[int]:
    """Return the blocks that get adapters; each layer asks for them."""
    every = frozenset(range(1, num_layers + 1))
    chosen = every if blocks is None else frozenset(blocks)
    if not chosen <= every:
        raise ScenarioError(
            f"lora.blocks: the model has no block {min(chosen - every)}; its blocks are 1 to {num_layers}."
        )
    return chosen
