"""Scheduler: the last first."""

from typing import Literal

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class LastCome(Scheduler):
    """The sender that asked last has the whole band."""

    kind: Literal["far_last_come"] = "last_come"

    def schedule(self, demand: Demand) -> Schedule:
        """Return the last sender for everything."""
        return Schedule(demand.to_one(len(demand.bits) - 1))
