"""What a checkpoint holds and what its config asks for, from the headers of its files, without torch.

A run loads exactly the tensors that :func:`compare` finds for the model, so
that a check can say beforehand what loading would find wrong.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosim.errors import ScenarioError
from cosim.learning.parameters import parameters_of
from cosim.learning.shape import ModelShape

if TYPE_CHECKING:
    from torch import Tensor

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CHUNK_BYTES = 1 << 22
_BUFFERS = re.compile(r"(^|\.)att(n|ention)\.(masked_)?bias$|rotary_emb\.inv_freq$|(^|\.)position_ids$")
"""Constants that older releases of transformers saved beside the weights."""

_HEAD = "lm_head.weight"

Shape = tuple[int, ...]


class Stored(NamedTuple):
    """A tensor as a file's header describes it; ``begin`` and ``end`` count bytes from the file's start."""

    file: Path
    dtype: str
    shape: Shape
    begin: int
    end: int


class Fit(NamedTuple):
    """How a checkpoint fits a model: its tensors by the model's names, what is wrong, and what is left over.

    Attributes
    ----------
    used
        Tensors the model takes, by its own names.
    missing
        What the model needs and the checkpoint has not, with what it has instead if anything.
    unused
        Tensors of the checkpoint that the model has no place for, by the checkpoint's names.
    num_stored
        Tensors in the checkpoint, constants left out.
    """

    used: Mapping[str, Stored]
    missing: Mapping[str, str]
    unused: tuple[str, ...]
    num_stored: int


def expected_weights(shape: ModelShape) -> dict[str, Shape]:
    """Return the tensors of a model by name with their shapes; a classifier's head, drawn afresh, is none."""
    return {one.name: one.shape for one in parameters_of(shape) if one.role != "classifier"}


def stored_tensors(files: Sequence[Path]) -> dict[str, Stored]:
    """Return the tensors of some whole safetensors files by name.

    Raises
    ------
    ScenarioError
        If two files hold a tensor of the same name.
    """
    found: dict[str, Stored] = {}
    for file in files:
        for name, tensor in _header(file).items():
            if name in found:
                raise ScenarioError(
                    f"model: {found[name].file} and {file.name} both hold {name}; download the model again"
                )
            found[name] = tensor
    return found


def _header(file: Path) -> dict[str, Stored]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    return {
        name: Stored(
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            8 + length + entry["data_offsets"][1],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read_tensor(stored: Stored) -> "Tensor":
    """Return a tensor of a file, in memory of its own: a file may be replaced while a run goes on."""
    import torch

    with stored.file.open("rb") as opened:
        opened.seek(stored.begin)
        numbers = bytearray(opened.read(stored.end - stored.begin))
    flat = torch.frombuffer(numbers, dtype=getattr(torch, _FLOATS[stored.dtype]))
    return flat.reshape(stored.shape)


def compare(stored: Mapping[str, Stored], shape: ModelShape) -> Fit:
    """Return how the tensors of a checkpoint fit a model.

    As transformers has it, a checkpoint of the bare model is a fit for one
    with a head, norms may have their names of TensorFlow, and of a head tied to
    the embedding either one is enough.
    """
    needed = expected_weights(shape)
    expected = dict(needed)
    if shape.task == "causal_lm":
        expected[_HEAD] = shape.vocab_size, shape.hidden_size
    prefix = shape.inner_name
    used: dict[str, Stored] = {}
    missing: dict[str, str] = {}
    unused = []
    stored = {name: tensor for name, tensor in stored.items() if not _BUFFERS.search(name)}
    for name, tensor in stored.items():
        place = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        )
        for former, now in shape.names.former_names:
            place = re.sub(former, now, place)
        if place not in expected and f"{prefix}.{place}" in expected:
            place = f"{prefix}.{place}"
        if place in expected and tensor.shape != expected[place]:
            missing[place] = f"of shape {_shown(tensor.shape)} where {_shown(expected[place])} is needed"
        elif place in expected:
            used[place] = tensor
        else:
            unused.append(name)
    if shape.has_tied_head and _HEAD in used:
        used.setdefault(next(iter(needed)), used[_HEAD])
    missing |= {name: "missing" for name in needed if name not in used and name not in missing}
    return Fit(used, missing, tuple(sorted(unused)), len(stored))


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "one number"


def refuse_unfit(folder: Path, fit: Fit, shape: ModelShape) -> None:
    """Refuse a checkpoint that lacks what its model needs, is quantised, or holds what is no number.

    Raises
    ------
    ScenarioError
        With the first tensor at fault.
    """
    if fit.missing:
        first = min(fit.missing)
        raise ScenarioError(
            f"model: the weights in {folder} do not fit its config.json: {len(fit.missing)} missing or of "
            f"another shape, the first {first} ({fit.missing[first]}); "
            f"use a {shape.family} checkpoint that is whole"
        )
    for name, tensor in fit.used.items():
        if tensor.dtype not in _FLOATS:
            raise ScenarioError(
                f"model: {tensor.file} holds {name} as {tensor.dtype}, which cannot be trained on; "
                f"use a checkpoint that is not quantised, in {', '.join(_FLOATS.values())}"
            )
    for name, tensor in fit.used.items():
        stat = tensor.file.stat()
        if not _is_finite(tensor, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)):
            raise ScenarioError(
                f"model: {tensor.file} holds nan or infinity in {name}, so every loss would be nan; "
                "download or train the model again"
            )


def unused_note(fit: Fit) -> tuple[str, ...]:
    """Return what to say of the tensors of a checkpoint that are left out, nothing if all are used."""
    if not fit.unused:
        return ()
    some = ", ".join(fit.unused[:3]) + (", ..." if len(fit.unused) > 3 else "")
    return (
        f"{len(fit.unused)} of {fit.num_stored} tensors of the model's checkpoint are not used, "
        f"as its config and the task have no place for them: {some}.",
    )


@lru_cache(maxsize=65536)
def _is_finite(tensor: Stored, stamp: tuple[int, ...]) -> bool:
    """Return whether all numbers of a tensor are finite; looked up once as long as its file is the same."""
    with tensor.file.open("rb") as opened:
        opened.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left:
            chunk = opened.read(min(left, _CHUNK_BYTES))
            if not chunk or not _all_finite(chunk, tensor.dtype):
                return False
            left -= len(chunk)
    return True


def _all_finite(chunk: bytes, dtype: str) -> bool:
    if dtype == "BF16":  # the upper half of a float32: eight bits of exponent, all ones where not finite
        halves: NDArray[np.uint16] = np.frombuffer(chunk, dtype="<u2")
        return not bool(((halves & 0x7F80) == 0x7F80).any())
    return bool(
        np.isfinite(np.frombuffer(chunk, dtype="<f" + str({"F64": 8, "F32": 4, "F16": 2}[dtype]))).all()
    )
