"""What is small and takes long to find, handed from one process to the next in a file beside the store."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cosim.errors import StoreError
from cosim.files import write_whole

_MOST_LINES = 256
_KNOWN: dict[str, Any] = {}  # to this process


def default_store() -> Path:
    """Return the store of this user: ``COSIM_STORE``, or ``cosim/store`` in the cache folder.

    Raises
    ------
    StoreError
        If no variable names one, and the user has no home.
    """
    if named := os.environ.get("COSIM_STORE"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "cosim" / "store"
    except RuntimeError:
        raise StoreError(
            "the store: this user has no home folder to keep it in; name one with --store or in COSIM_STORE, "
            "or do without by --no-store."
        ) from None


def recalled(key: str, find: Callable[[], Any]) -> Any:
    """Return what ``find`` returns, or what it returned to an earlier process under the same key.

    A line of the file is a hash of the rest of it, the key and the value. A line that is damaged is
    as one that is not there, and a file that cannot be read or written is one without lines.

    Parameters
    ----------
    key
        A hash, hex, of everything that decides the value, code included.
    find
        Returns a JSON value.
    """
    if key not in _KNOWN:
        _KNOWN[key] = _found(key, find)
    return _KNOWN[key]


def _found(key: str, find: Callable[[], Any]) -> Any:
    lines: list[bytes] = []
    with suppress(OSError, StoreError):
        lines = _file().read_bytes().splitlines()
    for line in lines:
        check, _, rest = line.partition(b" ")
        if rest.startswith(f"{key} ".encode()) and check == _check(rest):
            return json.loads(rest.partition(b" ")[2])
    found = find()
    line = f"{key} {json.dumps(found)}".encode()
    with suppress(OSError, StoreError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        kept = [*lines[1 - _MOST_LINES :], _check(line) + b" " + line]
        write_whole(_file(), b"\n".join(kept), durable=False)
    return found


def _file() -> Path:
    return Path(f"{default_store()}.recalled")


def _check(line: bytes) -> bytes:
    return blake2b(line, digest_size=16).hexdigest().encode()
