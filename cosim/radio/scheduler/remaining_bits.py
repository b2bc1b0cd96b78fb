"""Each subchannel to the one that has much left and a good channel for it."""

from typing import Literal

import numpy as np

from cosim.radio.scheduler import Demand, Schedule, Scheduler


class RemainingBits(Scheduler):
    """Each subchannel goes to the largest product of bits left and rate (max-weight).

    What is left is counted as if every slot carried its rate, within slots that are worked out together.

    Source
    ------
    L. Tassiulas and A. Ephremides, "Stability properties of constrained queueing systems and scheduling
    policies for maximum throughput in multihop radio networks", IEEE Trans. Autom. Control 37(12), 1992.
    """

    kind: Literal["remaining_bits"] = "remaining_bits"

    def schedule(self, demand: Demand) -> Schedule:
        """Return the largest product, slot after slot, as each takes bits away."""
        rates, num_senders = demand.rates, len(demand.bits)
        if num_senders == 1:
            return Schedule(demand.to_one(0))
        left = demand.missing_bits.astype(float)
        owners = np.empty(rates.shape[1:], dtype=np.int64)
        columns = np.arange(rates.shape[2])
        for slot, possible in enumerate(np.ascontiguousarray(rates.transpose(1, 0, 2))):
            owner = (possible * left[:, np.newaxis]).argmax(axis=0)
            given = np.bincount(owner, weights=possible[owner, columns], minlength=num_senders)
            left = np.maximum(left - given * demand.slot_s, 1.0)
            owners[slot] = owner
        return Schedule(owners)
