"""What is small and takes long to find, handed from one process to the next in files beside the store."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cosim.errors import StoreError
from cosim.files import write_whole

_MOST_FILES = 64
_MOST_BYTES = 1 << 21


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


def recalled(words: object, find: Callable[[], Any], place: str = "recalled") -> Any:
    """Return what ``find`` returns, or what it returned to an earlier process under the same words.

    A file that cannot be read or written, or that is damaged, is as one that is not there: it begins
    with a hash of the rest of it, the key and the value. The last ones found are kept.

    Parameters
    ----------
    words
        Everything that decides the value, code included, by its ``repr``.
    find
        Returns a JSON value; tuples come back as lists.
    place
        The folder is called so behind the store's name: what is found often does not displace what is not.
    """
    key = blake2b(repr(words).encode(), digest_size=16).hexdigest()
    with suppress(OSError, StoreError):
        check, _, rest = (_folder(place) / key).read_bytes().partition(b" ")
        if check == _check(key, rest):
            return json.loads(rest)
    found = find()
    content = json.dumps(found).encode()
    if len(content) <= _MOST_BYTES:
        with suppress(OSError, StoreError):
            _keep(_folder(place), key, _check(key, content) + b" " + content)
    return found


def _keep(folder: Path, key: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / key, content, durable=False)
    for path in sorted(folder.iterdir(), key=os.path.getmtime)[:-_MOST_FILES]:
        path.unlink(missing_ok=True)


def _folder(place: str) -> Path:
    return Path(f"{default_store()}.{place}")


def _check(key: str, content: bytes) -> bytes:
    return blake2b(content, key=key.encode(), digest_size=16).hexdigest().encode()
