"""One task to its end, then the next."""

from typing import Literal

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, TaskPolicy


class Sequential(TaskPolicy):
    """All work on the first task until its rounds are over or, with ``until_s``, its share of the time is.

    Shares are equal. A task whose rounds are over earlier leaves its time to those behind it.
    """

    kind: Literal["sequential"] = "sequential"

    def choose(self, arrival: Arrival, stream: Stream) -> int | None:
        """Return the first open task whose time has not passed."""
        count = len(arrival.offers)
        due = 0 if self.until_s is None else int(count * arrival.time_s / self.until_s)
        return next((place for place in arrival.open if place >= due), None)
