"""Some weights of linear layers, chosen at random by a seed that all know."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.parameters import Parameter, classifier_of, role_of
from cosim.learning.shape import Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable
from cosim.rng import stream
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIX = ".changes"


class Sparse(Trainable):
    """Weights of linear layers in the blocks, the same share of each layer; all others stay.

    Which ones is drawn once, from a seed, so the mask takes no bits: the seed travels, 32 bits to each
    client before the first round, and then the chosen numbers. What is trained is their change,
    which starts at zero. A device forms the gradient of every weight of the layers all the same, and is
    charged the FLOP and the memory of it; the optimiser's moments are of the chosen ones.

    Attributes
    ----------
    density
        Share of the weights of each layer, rounded to a whole number of them.
    target_modules
        Layers of a block, as for LoRA, and without it the same.
    mask_seed
        Decides which; without it, it follows from the scenario's seed.

    Source
    ------
    S. Babakniya et al., "SLoRA: federated parameter efficient fine-tuning of language models",
    FL@FM-NeurIPS 2023, arXiv 2308.06522, stage 1. Seen: the abstract and two public implementations, not the
    paper's text; that the mask is random, fixed and of one density is theirs or recalled.
    """

    kind: Literal["sparse"] = "sparse"
    seed_bits: ClassVar[int] = 32
    density: float = Field(default=0.05, gt=0.0, le=1.0)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    mask_seed: int | None = Field(default=None, ge=0, lt=1 << 32)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"density": 0.3, "target_modules": ["all-linear"], "mask_seed": 5},
    )

    def drawn(self, seed: int) -> Self:
        """Return the same with the seed of the mask."""
        if self.mask_seed is not None:
            return self
        return self.model_copy(update={"mask_seed": seed % (1 << 32)})

    def check(self, shape: ModelShape, dtype: str, *, is_cut: bool) -> None:
        """Refuse target modules that the model does not have, and a density that leaves a layer nothing."""
        for linear in self._targets(shape):
            if not self._count(linear):
                raise ScenarioError(
                    f"trainable.density: {self.density:g} of the {linear.d_in * linear.d_out} weights of "
                    f"{linear.name!r} is none; give it {1.0 / (linear.d_in * linear.d_out):.2g} or more."
                )

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return the changes of each layer in one vector, and the head of a classifier."""
        found = [
            Parameter(layer + _SUFFIX, (self._count(linear),), block, role_of(shape, linear))
            for layer, (block, linear) in self._layers(shape).items()
        ]
        return (*found, *classifier_of(shape))

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
        """Charge the layer, and the gradient of all its weights where some are trained."""
        return tape.dense(rows, linear.d_in, linear.d_out, x, linear in self._targets(shape))

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return the inputs of the layers whose inputs are the output of no other layer and no norm."""
        ends = (shape.attention_output, shape.mlp_output)
        return sum(one.d_in for one in ends if one in self._targets(shape))

    def gradient_numbers(self, shape: ModelShape, trained: Collection[Parameter]) -> int:
        """Return the weights of the layers, of which all have one."""
        whole = {name + _SUFFIX: one.d_in * one.d_out for name, (_, one) in self._layers(shape).items()}
        return sum(whole.get(one.name, one.numbers) for one in trained)

    def places(self, shape: ModelShape) -> dict[str, Ints]:
        """Return which weights of each layer may change, ascending, by the layer's name.

        They are counted through a matrix of shape (outputs, inputs).
        """
        chosen = {}
        for layer, (_, linear) in self._layers(shape).items():
            chance = stream(self.mask_seed or 0, "mask", layer).generator()
            numbers = chance.choice(linear.d_in * linear.d_out, self._count(linear), replace=False)
            chosen[layer] = np.sort(numbers.astype(np.int64))
        return chosen

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Put the changes into the layers."""
        import torch

        from cosim.learning.sparse_layer import add_sparse

        is_transposed = shape.names.stores_inputs_first
        stored = {}
        for layer, chosen in self.places(shape).items():
            linear = self._layers(shape)[layer][1]
            rows, columns = np.divmod(chosen, linear.d_in)
            stored[layer] = torch.from_numpy(columns * linear.d_out + rows if is_transposed else chosen)
        add_sparse(model, stored, fan_in_fan_out=is_transposed)
        return super().attach(model, shape, base_name)

    def layers(self, shape: ModelShape) -> dict[str, str]:
        """Return the layers with the names of their changes."""
        return {layer: layer + _SUFFIX for layer in self._layers(shape)}

    def changes(
        self, tensors: "Mapping[str, Tensor]", merged: "Mapping[str, Tensor]", shape: ModelShape
    ) -> "dict[str, Tensor]":
        """Return the changes of each layer at their places, zero elsewhere."""
        import torch

        found = {}
        for layer, chosen in self.places(shape).items():
            linear, values = self._layers(shape)[layer][1], tensors[layer + _SUFFIX]
            dense = values.new_zeros(linear.d_out * linear.d_in)
            dense[torch.from_numpy(chosen).to(values.device)] = values
            found[layer] = dense.view(linear.d_out, linear.d_in)
        return found

    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return a checkpoint of the changed model, as transformers loads it."""
        from cosim.learning.sparse_layer import SparseLinear
        from cosim.learning.trainable.full import checkpoint

        weights = {}
        for name, frozen in model.named_parameters():
            if not name.endswith(_SUFFIX):
                weights[name.replace(".base_layer.", ".")] = tensors.get(name, frozen)
        for layer, module in model.named_modules():
            if isinstance(module, SparseLinear):
                name = f"{layer}.weight"
                changes = tensors[layer + _SUFFIX]
                flat = weights[name].detach().flatten().to(changes.dtype)
                flat = flat.scatter_add(0, module.places, changes)
                weights[name] = flat.view(weights[name].shape).to(weights[name].dtype)
        return checkpoint(model, weights, labels, tokenizer)

    def _targets(self, shape: ModelShape) -> tuple[Linear, ...]:
        names = shape.default_targets if self.target_modules is None else self.target_modules
        return shape.targets(names)

    def _layers(self, shape: ModelShape) -> dict[str, tuple[int, Linear]]:
        """Return the layers by name, each with its block, counted from 1, and its sizes."""
        return {
            f"{shape.block_name(block)}.{linear.name}": (block, linear)
            for block in range(1, shape.num_layers + 1)
            for linear in self._targets(shape.at(block))
        }

    def _count(self, linear: Linear) -> int:
        return round(self.density * linear.d_in * linear.d_out)
