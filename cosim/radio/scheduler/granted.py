"""Everybody keeps to what the allocator granted."""

from typing import ClassVar, Literal

import numpy as np

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class Granted(Scheduler):
    """Every slot is shared out as the allocator decided, so allocators of papers work over slots.

    Where grants overlap, a subchannel serves the first that asked. ``access`` says what
    becomes of subchannels whose owner is silent.
    """

    kind: Literal["granted"] = "granted"
    keeps_grants: ClassVar[bool] = True

    def schedule(self, demand: Demand) -> Schedule:
        """Return the first that asked among those who were granted a subchannel."""
        has = demand.granted > 0
        owners = np.where(has.any(axis=0), has.argmax(axis=0), -1)
        return Schedule(np.broadcast_to(owners, demand.rates.shape[1:]))
