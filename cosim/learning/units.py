"""Units of a model that a client may leave out: attention heads, and columns of the MLP; without torch.

A unit of attention is a head of keys and values with all heads of queries that share it; a column is one
number between the linear layers of an MLP. Who leaves some out has smaller matrices; what remains is the
model with their weights zero.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Literal, TypeAlias, get_args

from cosim.learning.parameters import PEFT, Parameter, role_of
from cosim.learning.shape import Linear, ModelShape

UnitKind = Literal["heads", "columns"]

UNIT_KINDS: tuple[UnitKind, ...] = get_args(UnitKind)

Kept: TypeAlias = tuple[tuple[int, int], ...]
"""How many units of each kind remain in each block."""

_EXACT = 1e-9  # a share such as 1 - 0.9 is a little more or less than a whole number of units
_ENDS = (".base_layer.weight", ".lora_A.weight", ".lora_B.weight", ".weight", ".bias")


def units_of(shape: ModelShape, kind: UnitKind) -> int:
    """Return how many units of a kind each block of a whole model has."""
    return shape.num_key_value_heads if kind == "heads" else shape.mlp_output.d_in


def prunable(
    shape: ModelShape, names: Iterable[str], private: Collection[str], kinds: Collection[UnitKind]
) -> tuple[tuple[bool, bool], ...]:
    """Return for each block whether its heads and its columns may be left out.

    They may unless all that is trained of the block's attention, or of its MLP, is private.

    Parameters
    ----------
    names, private
        Names of what is trained, and of what of it is private.
    kinds
        What is to be left out at all.
    """
    layers, shared = _layers(shape), dict[tuple[int, UnitKind], bool]()
    for name in names:
        if (layer := layers.get(_taken_apart(name)[0])) is not None:
            place = layer[0], _kind(shape, layer[1])
            shared[place] = shared.get(place, False) or name not in private

    def may(block: int, kind: UnitKind) -> bool:
        return kind in kinds and shared.get((block, kind), True)

    return tuple((may(block, "heads"), may(block, "columns")) for block in range(1, shape.num_layers + 1))


def kept_units(shape: ModelShape, ratio: float, free: Sequence[tuple[bool, bool]]) -> Kept:
    """Return how many units remain if a share of those that may be is left out, rounded down.

    Examples
    --------
    >>> small = ModelShape.read({"model_type": "gpt2", "n_layer": 2})
    >>> kept_units(small, 0.4, ((True, True), (False, True)))
    ((7, 1843), (12, 1843))
    """
    heads, columns = (units_of(shape, kind) for kind in UNIT_KINDS)
    fewer_heads, fewer_columns = (floor((1.0 - ratio) * count + _EXACT) for count in (heads, columns))
    return tuple(
        (fewer_heads if may_heads else heads, fewer_columns if may_columns else columns)
        for may_heads, may_columns in free
    )


def narrowed(shape: ModelShape, kept: Kept) -> ModelShape:
    """Return the shape of a model of which only so many units of each block remain; none is possible."""
    whole = (units_of(shape, "heads"), units_of(shape, "columns"))
    if all(one == whole for one in kept):
        return shape
    return replace(shape, blocks=tuple(_block(shape, heads, columns) for heads, columns in kept))


def can_narrow(
    shape: ModelShape, parameters: Callable[[ModelShape], Sequence[Parameter]], kept: Kept
) -> bool:
    """Return whether what is trained of a narrowed model is what :func:`axes_of` leaves of the whole one."""
    whole, found = parameters(shape), {one.name: one.shape for one in parameters(narrowed(shape, kept))}
    axes = axes_of(shape, [one.name for one in whole])
    left = {
        f"{block}.{kind}": count
        for block, both in enumerate(kept, start=1)
        for kind, count in zip(UNIT_KINDS, both, strict=True)
    }
    for one in whole:
        sizes = list(one.shape)
        if (axis := axes.get(one.name)) is not None:
            sizes[axis.dim] = axis.repeats * left[axis.units] * axis.size
        if found.pop(one.name, None) != tuple(sizes):
            return False
    return not found


def _block(shape: ModelShape, heads: int, columns: int) -> ModelShape:
    """Return the shape inside a block."""
    every, mixed = shape.num_key_value_heads, shape.attention_output
    queries, keys, values = (
        one._replace(d_out=one.d_out // every * heads) for one in shape.queries_keys_values
    )
    block = replace(
        shape,
        num_heads=shape.num_heads // every * heads,
        num_key_value_heads=heads,
        queries_keys_values=(queries, keys, values),
        attention_output=mixed._replace(d_in=mixed.d_in // every * heads),
        mlp_inputs=tuple(one._replace(d_out=columns) for one in shape.mlp_inputs),
        mlp_output=shape.mlp_output._replace(d_in=columns),
    )
    gone = sum(one.num_weights for one in shape.linears) - sum(one.num_weights for one in block.linears)
    return replace(block, block_weights=shape.block_weights - gone)


@dataclass(frozen=True)
class Axis:
    """Along which dimension of a tensor the units of a block lie.

    Attributes
    ----------
    dim
        The dimension.
    units
        Name of the units, as in ``3.heads``.
    count, size, repeats
        It has ``repeats`` times ``count`` units, each of ``size`` numbers in a row. A fused layer
        repeats them for queries, keys and values.
    """

    dim: int
    units: str
    count: int
    size: int
    repeats: int = 1


def axes_of(shape: ModelShape, names: Iterable[str]) -> dict[str, Axis]:
    """Return where units lie in tensors of a whole model, by name; what has none is left out.

    Names are those of parameters of the model, of factors beside them, or both. A bias behind the
    units, and the factor on the other side of a layer, have none.
    """
    layers, found = _layers(shape), {}
    for name in names:
        layer, end = _taken_apart(name)
        if layer in layers and (axis := _axis(shape, *layers[layer], end)) is not None:
            found[name] = axis
    return found


def _axis(shape: ModelShape, block: int, linear: Linear, end: str) -> Axis | None:
    kind = _kind(shape, linear)
    is_input = linear in (shape.attention_output, shape.mlp_output)
    if end == (".lora_B.weight" if is_input else ".lora_A.weight") or (is_input and end == ".bias"):
        return None
    if end == ".bias":
        dim = 0
    elif end.startswith(".lora") or not shape.names.stores_inputs_first:
        dim = int(is_input)
    else:
        dim = int(not is_input)
    length, count = linear.d_in if is_input else linear.d_out, units_of(shape, kind)
    repeats = shape.queries_keys_values.count(linear)
    repeats = 3 if repeats == 3 else 1
    return Axis(dim, f"{block}.{kind}", count, length // (count * repeats), repeats)


def _layers(shape: ModelShape) -> dict[str, tuple[int, Linear]]:
    """Return the linear layers of all blocks by their names in the model, each with its block."""
    return {
        f"{shape.block_name(block)}.{linear.name}": (block, linear)
        for block in range(1, shape.num_layers + 1)
        for linear in shape.linears
    }


def _kind(shape: ModelShape, linear: Linear) -> UnitKind:
    return "heads" if role_of(shape, linear) == "attention" else "columns"


def _taken_apart(name: str) -> tuple[str, str]:
    """Return the layer that a tensor is of or beside, and the rest of its name."""
    end = next((one for one in _ENDS if name.endswith(one)), "")
    return name.removeprefix(f"{PEFT}.").removesuffix(end), end
