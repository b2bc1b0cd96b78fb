"""Layers and tables of a model as its config describes them, without torch."""

from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from cosim.learning.architectures.architecture import is_norm

Factor = Literal["A", "B"]
"""One of the two factors of an adapter: A takes the layer's inputs, B gives its outputs."""

Role = Literal["embedding", "norm", "attention", "mlp", "head", "classifier", "prefix", "magnitude", "A", "B"]
"""What a parameter is for; ``A`` and ``B`` are the factors of a LoRA adapter, a ``magnitude`` is of DoRA.

A pooler is of the head.
"""


class Parameter(NamedTuple):
    """One tensor.

    Attributes
    ----------
    name, shape
        As the model's ecosystem has them.
    block
        The block it is in, counted from 1; 0 in front of the blocks, ``num_layers + 1`` behind them.
    role
        What it is for.
    """

    name: str
    shape: tuple[int, ...]
    block: int
    role: Role

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def factor(self) -> Factor | None:
        """Which factor of an adapter it is; None for what is no factor."""
        return self.role if self.role == "A" or self.role == "B" else None


class Linear(NamedTuple):
    """A linear layer of a block; ``name`` is its dotted path inside the block."""

    name: str
    d_in: int
    d_out: int
    has_bias: bool

    @property
    def num_weights(self) -> int:
        """Weights and biases."""
        return self.d_out * (self.d_in + self.has_bias)


class Weight(NamedTuple):
    """A parameter in front of the blocks; ``name`` is its dotted path in the inner model."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_norm(self) -> bool:
        """Whether it is of a norm."""
        return is_norm(self.name.rpartition(".")[0])


@dataclass(frozen=True)
class Patches:
    """How an image becomes positions: one for each square patch, behind one for the class.

    Attributes
    ----------
    image_side, patch_side
        Pixels.
    num_channels
        Numbers of a pixel.
    """

    image_side: int
    patch_side: int
    num_channels: int

    @property
    def count(self) -> int:
        """Patches of an image."""
        return int((self.image_side // self.patch_side) ** 2)

    @property
    def numbers(self) -> int:
        """Numbers of a patch."""
        return self.num_channels * self.patch_side**2


class RelativeAttention(NamedTuple):
    """How attention sees distances: by vectors that go through two linear layers, as DeBERTa has it.

    Attributes
    ----------
    num_vectors
        Vectors, one for each distance.
    keys, queries
        The layers they go through.
    """

    num_vectors: int
    keys: Linear
    queries: Linear
