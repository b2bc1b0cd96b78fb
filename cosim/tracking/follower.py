"""What a tracker receives from a run while it goes on."""

from math import isfinite
from statistics import fmean

from cosim.record.log import MetricLog
from cosim.tracking import Tracking


class Follower:
    """Tells a tracker what was measured since it was asked last, an instant at a time.

    Values of several clients at one instant are averaged; what is not finite is left out. Rounds that
    overlap are reported in the order in which their values are known. A run that is played again from the
    beginning, because a value was lost, tells nothing twice.
    """

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self._num_told = 0

    def follow(self, log: MetricLog) -> None:
        """Tell what is new in the log."""
        found: dict[int, dict[str, list[float]]] = {}
        for row in range(self._num_told, len(log)):
            tag = f"{log.task[row]}/{log.name[row]}" if log.task[row] else log.name[row]
            if isfinite(log.value[row]):
                found.setdefault(log.time_ns[row], {}).setdefault(tag, []).append(log.value[row])
        self._num_told = max(self._num_told, len(log))
        for time_ns, values in sorted(found.items()):
            self._tracking.add(time_ns, {tag: fmean(several) for tag, several in values.items()})

    def close(self, status: str) -> None:
        """Tell how the run ended."""
        self._tracking.close(status)
