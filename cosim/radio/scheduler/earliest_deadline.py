"""All subchannels to the payload that is due first."""

from typing import Literal

from pydantic import Field

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class EarliestDeadline(Scheduler):
    """The payload that is due first has the whole band until it has arrived.

    Attributes
    ----------
    due_rate_bit_per_s
        A payload is due after as long as it takes at this rate; of equally large ones, the first that
        asked goes first.

    Source
    ------
    C. L. Liu and J. W. Layland, "Scheduling algorithms for multiprogramming in a hard-real-time
    environment", J. ACM 20(1), 1973.
    """

    kind: Literal["earliest_deadline"] = "earliest_deadline"
    due_rate_bit_per_s: float = Field(default=1e6, gt=0.0)

    def schedule(self, demand: Demand) -> Schedule:
        """Return the sender with the earliest deadline for everything."""
        due_s = demand.asked_s + demand.bits / self.due_rate_bit_per_s
        return Schedule(demand.to_one(int(due_s.argmin())))
