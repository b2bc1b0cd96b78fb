"""One subchannel after the other, in turn."""

from typing import Literal

import numpy as np

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class RoundRobin(Scheduler):
    """Subchannels are dealt in turn to those who send, from slot to slot.

    It knows no channel; everybody has as many resource elements as everybody else.
    """

    kind: Literal["round_robin"] = "round_robin"

    def schedule(self, demand: Demand) -> Schedule:
        """Return senders in turn over all subchannels of all slots."""
        num_senders, num_slots, num_subchannels = demand.rates.shape
        first = demand.first_slot * num_subchannels
        turns = first + np.arange(num_slots * num_subchannels).reshape(num_slots, num_subchannels)
        return Schedule(turns % num_senders)
