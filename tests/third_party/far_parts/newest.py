"""Task policy: where the data are newest."""

from typing import Literal

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, TaskPolicy


class Newest(TaskPolicy):
    """The open task with most data that the client has not seen."""

    kind: Literal["far_newest"] = "far_newest"

    def choose(self, arrival: Arrival, stream: Stream) -> int:
        """Return its place."""
        return max(arrival.open, key=lambda place: arrival.offers[place].new_data)
