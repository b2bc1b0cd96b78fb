"""The queue of runs: the order in which they begin, so that no two train the same at once."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, nan


@dataclass(frozen=True)
class Run:
    """One run of a plan, by the number of its case, its replication, and what its training is known by."""

    case: int
    replication: int
    training: str


class RunQueue:
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


class Pace:
    """How long what is left of a queue takes, by what has ended of it.

    Runs that train are kept apart from those that recall what they learned: they
    come first, and may take a hundred times as long.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._trains: set[tuple[int, int]] = set()
        seen = {""}
        self._left = {True: 0, False: 0}
        self._ended_s: dict[bool, list[float]] = {True: [], False: []}
        for run in runs:
            if run.training not in seen:
                seen.add(run.training)
                self._trains.add((run.case, run.replication))
            self._left[(run.case, run.replication) in self._trains] += 1

    def ended(self, case: int, replication: int, wall_s: float) -> None:
        """Take in how long a run took."""
        trains = (case, replication) in self._trains
        self._left[trains] -= 1
        self._ended_s[trains].append(wall_s)

    def left_s(self, num_workers: int) -> float:
        """Return how long the rest takes so many workers, s; nan before it is known.

        As long as no run has shown what recalling takes, that is not in it.
        """
        if self._left[True] and not self._ended_s[True]:
            return nan
        if not self._left[True] and not self._ended_s[False]:
            return nan
        trainings_s = ceil(self._left[True] / num_workers) * _mean(self._ended_s[True])
        return trainings_s + self._left[False] * _mean(self._ended_s[False]) / num_workers


def _mean(times_s: list[float]) -> float:
    return sum(times_s) / len(times_s) if times_s else 0.0
