"""Memory that the C library keeps instead of handing it back and asking for it again.

A pass makes the same tensors of some megabytes again and again. By default glibc
gives each of them pages of its own and returns these at once, so every pass
pays for every page again: a fifth of the time of a small model's step.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1
_KEPT = (1 << 26, 1 << 25)
"""Bytes; a larger tensor has pages of its own, so that a few of them cannot leave holes for good.

Old releases of glibc take no more than the second.
"""


def keep_memory() -> bool:
    """Let glibc keep what is freed, for as long as the process lives; return whether it does.

    Another C library has no such switch, and an environment that sets one of its own
    (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``, ``GLIBC_TUNABLES``) is left alone.

    Source
    ------
    ``mallopt(3)``.
    """
    if not sys.platform.startswith("linux") or any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - musl has a mallopt that does nothing
    except (OSError, AttributeError):
        return False
    keeps = any(bool(library.mallopt(_M_MMAP_THRESHOLD, size)) for size in _KEPT)
    return keeps and bool(library.mallopt(_M_TRIM_THRESHOLD, _NEVER))
