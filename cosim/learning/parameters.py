"""The parameters of a pre-trained model by name, shape and place, from its shape alone, without torch."""

from collections.abc import Iterator
from typing import Literal

from cosim.learning.layers import Linear, Role
from cosim.learning.layers import Parameter as Parameter
from cosim.learning.shape import ModelShape

PEFT = "base_model.model"
"""What PEFT puts in front of the names of a model that it adapts."""

_HEAD = "lm_head.weight"


def parameters_of(shape: ModelShape) -> tuple[Parameter, ...]:
    """Return every parameter of a model by its name in transformers, in the model's order.

    Tied ones are one, under the first name.

    Examples
    --------
    >>> gpt2_small = ModelShape.read({"model_type": "gpt2"})
    >>> parameters_of(gpt2_small)[0]
    Parameter(name='transformer.wte.weight', shape=(50257, 768), block=0, role='embedding')
    """
    inner, last, names = shape.inner_name, shape.num_layers + 1, shape.names
    if shape.listed:
        has_head = shape.has_tied_head or any(one.name == _HEAD for one in shape.listed)
        return shape.listed if shape.task != "causal_lm" or has_head else (*shape.listed, _head(shape))
    found = [
        Parameter(f"{inner}.{one.name}", one.shape, 0, "norm" if one.is_norm else "embedding")
        for one in shape.front
    ]
    for block in range(1, shape.num_layers + 1):
        found += _block(shape, block)
    if names.final_norm:
        found += _norm(shape, f"{inner}.{names.final_norm}", last)
    if names.pooler:
        found += _dense(shape, f"{inner}.{names.pooler}", shape.hidden_size, "head")
    if shape.task == "causal_lm" and not shape.has_tied_head:
        found.append(_head(shape))
    if shape.task == "causal_lm" and names.head_has_bias:
        found.append(Parameter("lm_head.bias", (shape.vocab_size,), last, "head"))
    return (*found, *classifier_of(shape))


def classifier_of(shape: ModelShape) -> tuple[Parameter, ...]:
    """Return the parameters of a classifier's head, which no base has; none of a causal model."""
    if shape.task == "causal_lm":
        return ()
    if shape.listed:
        return tuple(one for one in shape.listed if one.role == "classifier")
    names = shape.names
    widths = [shape.hidden_size] * (len(names.classifier) - 1) + [shape.num_labels]
    return tuple(
        one
        for name, width in zip(names.classifier, widths, strict=True)
        for one in _dense(shape, name, width, "classifier", names.classifier_has_bias)
    )


def _head(shape: ModelShape) -> Parameter:
    return Parameter(_HEAD, (shape.vocab_size, shape.hidden_size), shape.num_layers + 1, "head")


def role_of(shape: ModelShape, linear: Linear) -> Literal["attention", "mlp"]:
    """Return what a linear layer of a block is for."""
    return "mlp" if linear in (*shape.mlp_inputs, shape.mlp_output) else "attention"


def _block(shape: ModelShape, block: int) -> Iterator[Parameter]:
    place, names, shape = shape.block_name(block), shape.names, shape.at(block)
    for linear in shape.linears:
        role = role_of(shape, linear)
        for name in (norm for norm, behind in names.norms if behind == linear.name):
            yield from _norm(shape, f"{place}.{name}", block, shape.norm_width(name))
        sizes = (linear.d_in, linear.d_out) if names.stores_inputs_first else (linear.d_out, linear.d_in)
        yield Parameter(f"{place}.{linear.name}.weight", sizes, block, role)
        if linear.has_bias:
            yield Parameter(f"{place}.{linear.name}.bias", (linear.d_out,), block, role)
    for name in (norm for norm, behind in names.norms if not behind):
        yield from _norm(shape, f"{place}.{name}", block, shape.norm_width(name))


def _norm(shape: ModelShape, name: str, block: int, width: int = 0) -> Iterator[Parameter]:
    for kind in ("weight", "bias") if shape.names.norm_has_bias else ("weight",):
        yield Parameter(f"{name}.{kind}", (width or shape.hidden_size,), block, "norm")


def _dense(
    shape: ModelShape, name: str, d_out: int, role: Role, has_bias: bool = True
) -> Iterator[Parameter]:
    """Return a linear layer behind the blocks."""
    yield Parameter(f"{name}.weight", (d_out, shape.hidden_size), shape.num_layers + 1, role)
    if has_bias:
        yield Parameter(f"{name}.bias", (d_out,), shape.num_layers + 1, role)
