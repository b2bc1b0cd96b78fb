"""What of a model is trained: a part lists its tensors, counts them, and puts them into the model.

A tensor is a factor of a rank pair, or a tensor of its own that is trained, sent and
averaged as it is. A part must say four things: its ``parameters``, which of the outer ones
it ``trains``, what a linear layer costs (``play_linear``), and its ``files``. Layouts, bits,
memory, cuts, keys and averages follow. Everything but ``attach``, ``initial``
and ``files`` follows from the shape of the model, without torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from cosim.learning.parameters import Parameter
from cosim.learning.shape import BOTH_FACTORS, Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.parts import Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NO_RANK = 1
"""The rank in decisions about what has none; it decides nothing."""


class Trainable(Part, ABC):
    """What is trained.

    Attributes
    ----------
    has_factors
        Whether its tensors are factors of rank pairs, which some codecs, aggregators and
        regularizers are about, and whether an allocator may choose their rank.
    is_added
        Whether its tensors come on top of the model's own; otherwise it trains the model's.
    folder
        The folder of a run that gets its files.
    takes_transformers
        Whether ``attach`` and ``files`` need a model of transformers; others may be given plain
        modules under the same names, which take seconds less to load.
    seed_bits
        Bits that tell every client, once before it trains, what was drawn of what is trained.
    """

    has_factors: ClassVar[bool] = False
    is_added: ClassVar[bool] = False
    folder: ClassVar[Literal["adapter", "model"]] = "model"
    takes_transformers: ClassVar[bool] = True
    seed_bits: ClassVar[int] = 0

    @property
    def lora_rank(self) -> int:
        """The rank of its factors; :data:`NO_RANK` without any."""
        return NO_RANK

    @property
    def scaling(self) -> float:
        """What the product of its factors is multiplied by."""
        return 1.0

    @property
    def drops(self) -> bool:
        """Whether a pass in training draws what to drop."""
        return False

    @property
    def adds_products(self) -> bool:
        """Whether it adds scaled products of factors to layers: they can be averaged, cut out, taken over."""
        return False

    def of_rank(self, lora_rank: int) -> Self:
        """Return the same with factors of another rank."""
        return self

    def drawn(self, seed: int) -> Self:
        """Return the same with what is drawn of what is trained, from this seed unless it has its own."""
        return self

    def fitted(self, shape: ModelShape) -> ModelShape:
        """Return the shape of the model that is trained, which may be another than the base's."""
        return shape

    def check(self, shape: ModelShape, dtype: str, *, is_cut: bool) -> None:
        """Refuse a model that cannot be trained so.

        Raises
        ------
        ScenarioError
            Naming the setting and the way out.
        """

    @abstractmethod
    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return what is trained: what is in front of the blocks, block by block, what is behind."""

    def held(
        self, shape: ModelShape, num_blocks: int, factors: Collection[Factor] = BOTH_FACTORS
    ) -> tuple[Parameter, ...]:
        """Return what of it a client holds that has the first blocks, of its factors only these."""
        last = num_blocks + (num_blocks == shape.num_layers)  # the head is where all blocks are
        return tuple(
            one
            for one in self.parameters(shape)
            if one.block <= last and (one.factor is None or one.factor in factors)
        )

    def first_block(self, shape: ModelShape) -> int:
        """Return the first block with something trained; 0 where the embedding is."""
        return min(one.block for one in self.parameters(shape))

    def matrices(self, shape: ModelShape, num_blocks: int) -> tuple[Linear, ...]:
        """Return the matrices in the first blocks that have factors."""
        return ()

    @abstractmethod
    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Return whether the token embedding, or all that comes behind the blocks, is trained.

        A classifier, which no base has, always is.
        """

    @abstractmethod
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
        """Charge a linear layer of a block; return whether a gradient flows into its output.

        Parameters
        ----------
        rows
            How many vectors go through it.
        x
            Whether a gradient flows into its input.
        factors
            The factors that are trained, where there are any.
        """

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return what is kept of a token in a block for the way back, beside what every trainable keeps."""
        return 0

    def gradient_numbers(self, shape: ModelShape, trained: Collection[Parameter]) -> int:
        """Return the numbers of the gradients that are formed for these parameters."""
        return sum(one.numbers for one in trained)

    def layers(self, shape: ModelShape) -> Mapping[str, str]:
        """Return the linear layers it changes, each with the name of its first tensor.

        None where it changes anything else: another stage cannot take over from it then.
        """
        return {}

    def changes(
        self, tensors: "Mapping[str, Tensor]", merged: "Mapping[str, Tensor]", shape: ModelShape
    ) -> "dict[str, Tensor]":
        """Return what was added to the weights of its layers, each of shape (outputs, inputs).

        Parameters
        ----------
        tensors
            What was trained.
        merged
            What was merged into the base, by name of the layer's first tensor.
        shape
            Sizes of the model.
        """
        raise NotImplementedError(f"{type(self).__name__} changes no linear layers alone")

    def num_prefix_tokens(self, shape: ModelShape, block: int) -> int:
        """Return how many trained keys and values a block's attention has beside those of a sequence."""
        return 0

    @property
    def first_position(self) -> int:
        """Where the positions of a sequence begin."""
        return 0

    def deciding(self, lora_rank: int) -> dict[str, Any]:
        """Return what of its settings decides values at a rank, for keys."""
        return self.model_dump(mode="json")

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Make trainable what is trained; return what holds all parameters, and the model itself.

        The model is one of transformers, or plain modules under the same names; see ``takes_transformers``.

        A parameter requires a gradient exactly if it is trained. No global random state is changed.
        """
        names = {one.name for one in self.parameters(shape)}
        for name, weights in model.named_parameters():
            weights.requires_grad_(name in names)
        return model, model

    def initial(self, name: str, weights: "Tensor", generator: "torch.Generator") -> "Tensor":
        """Return the values one tensor starts with, by default the model's; chance from the generator only.

        A classifier, which no base has, is not asked for.
        """
        return weights.clone()

    @abstractmethod
    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return what was learned in files that its ecosystem reads, by name; equal tensors, equal bytes.

        Parameters
        ----------
        model
            What :meth:`attach` returned first.
        tensors
            What was trained.
        merged
            What was merged into the base, by names of parameters of ``model``.
        labels
            The classes in the order of a classifier's scores.
        tokenizer
            Folder of the base's tokenizer, where it has one.
        """
