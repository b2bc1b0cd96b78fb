"""One task after the other."""

from typing import Literal

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, TaskPolicy, next_open


class RoundRobin(TaskPolicy):
    """Each client takes the open tasks in turn; client ``c`` begins with task ``c``, around the end.

    With ``federated`` tasks, rounds are interleaved.
    """

    kind: Literal["round_robin"] = "round_robin"

    def choose(self, arrival: Arrival, stream: Stream) -> int:
        """Return the task behind the client's last."""
        place = arrival.client if arrival.last is None else arrival.last + 1
        return next_open(arrival, place % len(arrival.offers))
