"""Cores of this machine, and how many of them a process may keep busy."""

import os
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal

SHARE = "COSIM_CORES"
"""Names the cores that a study leaves to each of its processes."""

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Say how threads of OpenMP wait."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(asked: int | Literal["auto"]) -> int:
    """Return how many processes to compute in: one a core for ``auto``, and no more than a study leaves."""
    share = os.environ.get(SHARE, "")
    most = max(1, int(share)) if share.isdecimal() else None
    if asked == "auto":
        return most or cores()
    return asked if most is None else min(asked, most)


def wait_briefly(environment: MutableMapping[str, str] | None = None) -> None:
    """Let threads of OpenMP wait some microseconds for the next piece of work, then sleep.

    To be called before torch is loaded; what the user has set stands. Where sleepers are woken slowly, a
    round of short pieces takes twice as long if they sleep at once; beside another job, up to thirty times
    as long if they wait as long as OpenMP lets them.
    """
    environment = os.environ if environment is None else environment
    if environment.keys().isdisjoint(WAITING):
        environment.update({"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "0"})  # GNU's OpenMP, and LLVM's


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which the matrix library behind scipy keeps to one thread; load scipy first.

    The other threads have no part in a search over a few dozen numbers, but wait for one at full speed:
    on a busy machine it then takes ten times as long. The command line sets ``OPENBLAS_NUM_THREADS``.
    """
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
