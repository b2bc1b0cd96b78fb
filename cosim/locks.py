"""Locks between processes, on files; those of a process that is killed are free again."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def lock_file(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock file at ``path``, which is removed in the end.

    The lock is the kernel's. Markers instead of locks, which would outlive a
    killed process, are never used: where a file system has no locks, that is an
    error.

    Parameters
    ----------
    path
        Its folder must exist.
    waits
        Whether to wait for another process that holds it.

    Raises
    ------
    BlockingIOError
        If another process holds it and this one does not wait.
    OSError
        If the file cannot be made, or the file system has no locks.
    """
    from filelock import FileLock, Timeout  # some 50 ms, which a check does without

    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=waits)
    except Timeout:
        raise BlockingIOError(f"{path} is held by another process") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: a process that waits for it notices, and makes a new one
        lock.release()


def is_held(path: Path) -> bool:
    """Return whether any process holds the lock file at ``path``; also where that cannot be found out."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
