"""The bytes of a bundle: values of several nodes in one safetensors file, and their table of contents."""

import json
import struct
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_HEAD = 100_000_000  # as safetensors has it

Key = tuple[str, str]
"""Key of a node, and a field of its value."""


def digest(content: bytes) -> str:
    """Return what a bundle is named after."""
    return blake2b(content, digest_size=16).hexdigest()


def bundled(values: Mapping[Key, Any]) -> bytes:
    """Return values as a bundle: numbers, or by name tensors or raw bytes."""
    numbers = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tensors = {
        f"{key[0]}/{key[1]}/{name}": one
        for key, value in values.items()
        if isinstance(value, dict)
        for name, one in value.items()
    }
    fields = {key: list(value) for key, value in values.items() if isinstance(value, dict)}
    contents = {
        "numbers": [[*key, _written(value)] for key, value in numbers.items()],
        "tensors": [list(key) for key in fields],
        "names": list(fields.values()),  # in their order, which safetensors does not keep
    }
    said = digest(json.dumps(contents).encode())
    return _serialised(tensors, {**contents, "digest": said})


def head_of(path: Path) -> bytes | None:
    """Return a bundle's first bytes up to its tensors; None if they are damaged, or not followed by as many.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(8)
        head = begin + file.read(min(int.from_bytes(begin, "little"), _LONGEST_HEAD))
    try:
        header = _header(head)
        contents = json.loads(header.pop("__metadata__")["contents"])
        said = contents.pop("digest")
        tensors_end = max((one["data_offsets"][1] for one in header.values()), default=0)
        is_whole = digest(json.dumps(contents).encode()) == said
        return head if is_whole and len(head) + tensors_end == path.stat().st_size else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def contents_of(content: bytes) -> tuple[dict[Key, float], list[Key]]:
    """Return the numbers in a bundle, and the keys of its tensors; its head is enough."""
    contents = json.loads(_header(content)["__metadata__"]["contents"])
    numbers = {(key, field): _read(value) for key, field, value in contents["numbers"]}
    return numbers, [(key, field) for key, field in contents["tensors"]]


def tensors_of(content: bytes, key: Key, device: str | None) -> dict[str, Any]:
    """Return a value of a bundle by name: tensors on a device, or without one arrays and raw bytes.

    Names are in the order in which they were put in: sums and draws go by it.
    """
    prefix = f"{key[0]}/{key[1]}/"
    found = {name.removeprefix(prefix): one for name, one in _tensors(_part(content, prefix), device)}
    contents = json.loads(_header(content)["__metadata__"]["contents"])
    names = dict(zip(map(tuple, contents["tensors"]), contents.get("names", ()), strict=False))
    return {name: found[name] for name in names.get(key, found)}


def _written(value: float) -> float | str:
    """Return a number as JSON has it; what is none by its bits, of which JSON keeps no sign."""
    return value if value == value else struct.pack(">d", value).hex()


def _read(value: float | str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(value))[0]) if isinstance(value, str) else value


def _serialised(tensors: Mapping[str, "Tensor | bytes"], contents: Mapping[str, Any]) -> bytes:
    """Return the bytes of a bundle; raw bytes are kept as a tensor of uint8."""
    metadata = {"contents": json.dumps(contents)}
    raw = {name: one for name, one in tensors.items() if isinstance(one, bytes)}
    if len(raw) == len(tensors):
        from safetensors.numpy import save as save_arrays

        return bytes(
            save_arrays({name: np.frombuffer(one, dtype=np.uint8) for name, one in raw.items()}, metadata)
        )
    import torch
    from safetensors.torch import save

    named = {name: torch.from_numpy(np.frombuffer(one, dtype=np.uint8).copy()) for name, one in raw.items()}
    for name, one in tensors.items():
        if not isinstance(one, bytes):
            named[name] = one.detach().cpu().contiguous().clone()  # no two names may share their memory
    return bytes(save(named, metadata))


def _header(content: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _part(content: bytes, prefix: str) -> bytes:
    """Return a safetensors file of only those tensors whose names begin with ``prefix``."""
    first = 8 + int.from_bytes(content[:8], "little")
    header, pieces, end = {}, [], 0
    for name, entry in _header(content).items():
        if name.startswith(prefix):
            begins, ends = entry["data_offsets"]
            pieces.append(content[first + begins : first + ends])
            header[name] = entry | {"data_offsets": [end, end + ends - begins]}
            end += ends - begins
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *pieces])


def _tensors(content: bytes, device: str | None) -> Iterator[tuple[str, Any]]:
    if device is None:
        from safetensors.numpy import load as load_arrays

        for name, one in load_arrays(content).items():
            yield name, one.tobytes() if one.dtype == np.uint8 else one
        return
    from safetensors.torch import load

    for name, one in load(content).items():
        yield name, one.to(device)
