"""Each subchannel to the one that has the best channel on it."""

from typing import Literal

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class MaxRate(Scheduler):
    """Maximum C/I: each subchannel goes to the sender that carries most on it.

    Source
    ------
    R. Knopp and P. A. Humblet, "Information capacity and power control in single-cell multiuser
    communications", ICC 1995.
    """

    kind: Literal["max_rate"] = "max_rate"

    def schedule(self, demand: Demand) -> Schedule:
        """Return the sender of the highest rate, the first that asked of several."""
        return Schedule(demand.rates.argmax(axis=0))
