"""The agenda: in which order runs are made, so that no two processes train the same thing at one time."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One run of a plan, by the number of its case, its replication, and what its training is known by."""

    case: int
    replication: int
    training: str


class Agenda:
    """Runs still to be made.

    Of the runs that share a training one goes first, before all that train nothing
    new; the others begin when it has ended and its values are in the store. Were
    they begun earlier they would wait there, holding a worker and its memory.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._first: deque[Run] = deque()
        self._ready: deque[Run] = deque()
        self._waiting: dict[str, deque[Run]] = {}
        for run in runs:
            if not run.training:
                self._ready.append(run)
            elif run.training in self._waiting:
                self._waiting[run.training].append(run)
            else:
                self._waiting[run.training] = deque()
                self._first.append(run)

    def take(self) -> Run | None:
        """Return the next run to make, None while there is none that may begin."""
        for queue in (self._first, self._ready):
            if queue:
                return queue.popleft()
        return None

    def ended(self, run: Run) -> None:
        """Let those begin that waited for the values of this run."""
        self._ready.extend(self._waiting.pop(run.training, ()))
