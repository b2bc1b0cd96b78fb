"""The file of a learned policy: a multilayer perceptron and the form of the cells it is for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cosim.arrays import read_arrays, write_arrays
from cosim.control.learned import Form, Singles
from cosim.errors import AllocationError

_FORM = "cosim_form"


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Layers with a hyperbolic tangent between them, of normalised numbers.

    Tensors: ``mean`` and ``std`` of what is seen; ``layers.N.weight`` and ``layers.N.bias`` from N = 0 on, of
    shapes (out, in) and (out,); optionally ``skip.weight``, added straight from what is seen.
    """

    form: Form
    tensors: Mapping[str, Singles]

    def __call__(self, seen: Singles) -> Singles:
        """Return the numbers decided, shape (num_copies, num_decided), of what is seen."""
        own = self.tensors
        inputs = hidden = (seen - own["mean"]) / own["std"]
        last = sum(name.endswith(".bias") for name in own) - 1
        for number in range(last + 1):
            hidden = hidden @ own[f"layers.{number}.weight"].T + own[f"layers.{number}.bias"]
            hidden = np.tanh(hidden) if number < last else hidden
        hidden = hidden + inputs @ own["skip.weight"].T if "skip.weight" in own else hidden
        return np.asarray(hidden, dtype=np.float32)


def save(path: Path | str, form: Form, tensors: Mapping[str, Any]) -> None:
    """Write a policy that the allocator ``policy`` reads.

    Parameters
    ----------
    form
        Of the cells it is for: ``env.unwrapped.form``.
    tensors
        As :class:`Perceptron` has them; arrays, or tensors that numpy takes.

    Raises
    ------
    AllocationError
        If the layers do not go from what is seen to what is decided.
    """
    arrays = {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in tensors.items()}
    _check(form, arrays, str(path))
    write_arrays(Path(path), arrays, {_FORM: json.dumps(asdict(form))})


def load(path: Path) -> Perceptron:
    """Return the policy in a file.

    Raises
    ------
    AllocationError
        If there is none.
    """
    try:
        stamp = path.stat()
    except OSError as fault:
        raise AllocationError(f"allocator.file: {path} cannot be read: {fault.strerror}.") from None
    return _load(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, _changed_ns: int, _size: int) -> Perceptron:
    try:
        arrays, metadata = read_arrays(path)
        said = json.loads(metadata[_FORM])
        links = tuple((str(name), int(count)) for name, count in said["links"])
        several = (tuple(said[name]) for name in ("sets", "cut_layers", "ranks"))
        form = Form(int(said["num_clients"]), links, *several)
    except (OSError, KeyError, ValueError, TypeError):
        raise AllocationError(
            f"allocator.file: {path} is no policy; write one with cosim.control.policy_file.save."
        ) from None
    _check(form, arrays, str(path))
    return Perceptron(form, arrays)


def _check(form: Form, arrays: Mapping[str, Singles], path: str) -> None:
    """Refuse layers that do not fit each other, or the form."""
    seen, num_layers = form.num_observed, sum(name.endswith(".bias") for name in arrays)
    expected: list[tuple[str, tuple[int, ...]]] = [("mean", (seen,)), ("std", (seen,))]
    width = seen
    for number in range(num_layers):
        bias = arrays.get(f"layers.{number}.bias")
        wide = form.num_decided if number == num_layers - 1 or bias is None else len(bias)
        expected += [(f"layers.{number}.weight", (wide, width)), (f"layers.{number}.bias", (wide,))]
        width = wide
    if "skip.weight" in arrays:
        expected.append(("skip.weight", (form.num_decided, seen)))
    for name, shape in expected:
        found = arrays[name].shape if name in arrays else "missing"
        if found != shape:
            raise AllocationError(f"{path}: {name} is {found} and must be {shape} for {form}.")
    if not num_layers or len(arrays) != len(expected):
        raise AllocationError(f"{path}: has {', '.join(sorted(arrays))}; a policy has mean, std and layers.")
