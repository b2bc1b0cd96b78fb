"""Files of named arrays with texts beside them, as safetensors has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosim.files import write_whole


def write_arrays(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts as a safetensors file."""
    from safetensors.numpy import save

    write_whole(path, save(dict(arrays), dict(metadata)))


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arrays of a safetensors file, and its texts.

    Raises
    ------
    ValueError
        If it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}
    except SafetensorError as fault:
        raise ValueError(str(fault)) from None
