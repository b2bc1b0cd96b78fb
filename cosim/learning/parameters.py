"""The parameters of a pre-trained model by name, shape and place, from its shape alone, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from cosim.learning.shape import Factor, ModelShape

Role = Literal["embedding", "norm", "linear", "head", "classifier", "A", "B"]
"""What a parameter is for; ``A`` and ``B`` are the factors of a LoRA adapter."""

_NORMS = {
    "bert": (("attention.output.LayerNorm", "intermediate.dense"), ("output.LayerNorm", "")),
    "gpt2": (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")),
    "llama": (("input_layernorm", ""), ("post_attention_layernorm", "")),
    "roberta": (("attention.output.LayerNorm", "intermediate.dense"), ("output.LayerNorm", "")),
}
"""The norms of a block, each with the linear layer the model lists behind it; an empty name is none."""


@dataclass(frozen=True)
class Parameter:
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


def parameters_of(shape: ModelShape) -> tuple[Parameter, ...]:
    """Return every parameter of a model by its name in transformers, in the model's order.

    Tied ones are one, under the first name.

    Examples
    --------
    >>> gpt2_small = ModelShape.read({"model_type": "gpt2"})
    >>> parameters_of(gpt2_small)[0]
    Parameter(name='transformer.wte.weight', shape=(50257, 768), block=0, role='embedding')
    """
    inner, last = shape.inner_name, shape.num_layers + 1
    found = [
        Parameter(f"{inner}.{name}.weight", (rows, shape.hidden_size), 0, "embedding")
        for name, rows in shape.embedding_tables
    ]
    if shape.family in ("bert", "roberta"):
        before = 3 if shape.family == "bert" else 2  # RoBERTa lists its positions last
        found[before:before] = _norm(shape, f"{inner}.embeddings.LayerNorm", 0)
    for block in range(1, shape.num_layers + 1):
        found += _block(shape, block)
    if shape.family in ("gpt2", "llama"):
        found += _norm(shape, f"{inner}.{'ln_f' if shape.family == 'gpt2' else 'norm'}", last)
    if shape.family == "bert":
        found += _dense(shape, f"{inner}.pooler.dense", shape.hidden_size, "linear")
    if shape.task == "causal_lm" and not shape.has_tied_head:
        found.append(Parameter("lm_head.weight", (shape.vocab_size, shape.hidden_size), last, "head"))
    return (*found, *classifier_of(shape))


def classifier_of(shape: ModelShape) -> tuple[Parameter, ...]:
    """Return the parameters of a classifier's head, which no base has; none of a causal model."""
    if shape.task == "causal_lm":
        return ()
    if shape.family in ("gpt2", "llama"):
        size = shape.num_labels, shape.hidden_size
        return (Parameter("score.weight", size, shape.num_layers + 1, "classifier"),)
    if shape.family == "bert":
        return tuple(_dense(shape, "classifier", shape.num_labels, "classifier"))
    return (
        *_dense(shape, "classifier.dense", shape.hidden_size, "classifier"),
        *_dense(shape, "classifier.out_proj", shape.num_labels, "classifier"),
    )


def _block(shape: ModelShape, block: int) -> Iterator[Parameter]:
    place, norms = shape.block_name(block), _NORMS[shape.family]
    for linear in shape.linears:
        for name in (norm for norm, behind in norms if behind == linear.name):
            yield from _norm(shape, f"{place}.{name}", block)
        sizes = (linear.d_in, linear.d_out) if shape.family == "gpt2" else (linear.d_out, linear.d_in)
        yield Parameter(f"{place}.{linear.name}.weight", sizes, block, "linear")
        if linear.has_bias:
            yield Parameter(f"{place}.{linear.name}.bias", (linear.d_out,), block, "linear")
    for name in (norm for norm, behind in norms if not behind):
        yield from _norm(shape, f"{place}.{name}", block)


def _norm(shape: ModelShape, name: str, block: int) -> Iterator[Parameter]:
    for kind in ("weight",) if shape.family == "llama" else ("weight", "bias"):
        yield Parameter(f"{name}.{kind}", (shape.hidden_size,), block, "norm")


def _dense(shape: ModelShape, name: str, d_out: int, role: Role) -> Iterator[Parameter]:
    """Return a linear layer behind the blocks."""
    yield Parameter(f"{name}.weight", (d_out, shape.hidden_size), shape.num_layers + 1, role)
    yield Parameter(f"{name}.bias", (d_out,), shape.num_layers + 1, role)
