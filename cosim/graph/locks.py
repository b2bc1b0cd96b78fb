"""Locks: of several processes that would compute the same values, one does and the others wait for them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from cosim.locks import lock_file


@contextmanager
def locked(folder: Path, keys: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Wait until no other process computes these values, then keep others waiting.

    Where the file system has no locks, or none can be made, nobody waits: values
    are then computed several times over, to the same bytes.

    Parameters
    ----------
    folder
        Where those who share the values meet.
    keys
        The values; a process that asks for other ones does not wait.
    """
    name = blake2b(repr(sorted(keys)).encode(), digest_size=16).hexdigest()
    with ExitStack() as held:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock_file(folder / f".{name}.lock"))
        yield
