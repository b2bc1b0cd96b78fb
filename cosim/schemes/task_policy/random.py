"""Any task."""

from typing import Literal

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, TaskPolicy


class Random(TaskPolicy):
    """Each open task is as likely as any other."""

    kind: Literal["random"] = "random"

    def choose(self, arrival: Arrival, stream: Stream) -> int:
        """Return a task by chance."""
        return int(stream.generator().choice(arrival.open))
