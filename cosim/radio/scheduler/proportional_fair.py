"""Each subchannel to the one whose channel is best for what it usually gets."""

from typing import Literal

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S
from cosim.radio.scheduler import Demand, Schedule, Scheduler


class ProportionalFair(Scheduler):
    """Each subchannel goes to the largest ratio of its rate and what the sender was given lately.

    Attributes
    ----------
    averaging_s
        Time constant of the mean rate; a sender begins at an equal share of what it could have.

    Source
    ------
    D. Tse's rule in P. Viswanath, D. N. C. Tse and R. Laroia, "Opportunistic beamforming using dumb
    antennas", IEEE Trans. Inf. Theory 48(6), 2002, by subchannel; subchannels of one slot do not see
    what the others of it were given.
    """

    kind: Literal["proportional_fair"] = "proportional_fair"
    averaging_s: float = Field(default=0.1, gt=0.0, le=LONGEST_S)

    def schedule(self, demand: Demand) -> Schedule:
        """Return the largest ratio, slot after slot, as each moves the means."""
        rates, num_senders = demand.rates, len(demand.bits)
        if num_senders == 1:
            return Schedule(demand.to_one(0), rates.sum(axis=2).T)
        share = rates[:, 0].sum(axis=1) / num_senders
        mean = np.maximum(np.where(demand.mean_rates > 0.0, demand.mean_rates, share), 1e-9)
        keeps = np.exp(-demand.slot_s / self.averaging_s)
        owners = np.empty(rates.shape[1:], dtype=np.int64)
        means = np.empty((rates.shape[1], num_senders))
        columns = np.arange(rates.shape[2])
        for slot, possible in enumerate(np.ascontiguousarray(rates.transpose(1, 0, 2))):
            owner = (possible / mean[:, np.newaxis]).argmax(axis=0)
            given = np.bincount(owner, weights=possible[owner, columns], minlength=num_senders)
            mean = np.maximum(keeps * mean + (1.0 - keeps) * given, 1e-9)
            owners[slot], means[slot] = owner, mean
        return Schedule(owners, means)
