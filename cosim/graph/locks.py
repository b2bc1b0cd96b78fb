"""Locks: of several processes that would compute the same values, one does and the others wait for them."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path


@contextmanager
def locked(folder: Path, keys: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Wait until no other process computes these values, then keep others waiting.

    The lock is the kernel's, so that it goes with a process that is killed. Where
    the file system has no locks, or none can be made, nobody waits: values are
    then computed several times over, to the same bytes.

    Parameters
    ----------
    folder
        Where those who share the values meet.
    keys
        The values; a process that asks for other ones does not wait.
    """
    name = blake2b(repr(sorted(keys)).encode(), digest_size=16).hexdigest()
    path = folder / f".{name}.lock"
    try:
        lock = _taken(path)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: a process that waits for it notices, and makes a new one
        os.close(lock)


def _taken(path: Path) -> int:
    """Return a descriptor of the lock file at ``path`` once it is locked by this process alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, path):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(lock: int, path: Path) -> bool:
    """Return whether the file that was locked is still the one others would open."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(lock), there)
