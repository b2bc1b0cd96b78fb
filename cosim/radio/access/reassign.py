"""Reassigning access: subchannels whose owner is silent serve those who send."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from cosim.radio.access import Access
from cosim.radio.grant import Grant


class Reassign(Access):
    """Idle subchannels are dealt, one by one, to the clients that send, and go back when their owner does.

    A sender keeps its own subchannels and its total power; once it borrows, it
    spreads that power evenly over all it uses. Transfers in flight are re-rated whenever somebody
    begins or ends.
    """

    kind: Literal["reassign"] = "reassign"
    changes_in_flight: ClassVar[bool] = True

    def in_use(self, granted: Mapping[int, Grant], active: Sequence[int]) -> dict[int, Grant]:
        """Return own and borrowed subchannels of each sender."""
        used = {int(number) for client in active for number in granted[client].subchannels}
        every = {int(number) for grant in granted.values() for number in grant.subchannels}
        idle = sorted(every - used)
        senders = sorted(active)
        return {
            client: _with(granted[client], idle[turn :: len(senders)]) for turn, client in enumerate(senders)
        }


def _with(own: Grant, borrowed: list[int]) -> Grant:
    """Return a grant with more subchannels at the same total power."""
    if not borrowed:
        return own
    subchannels = np.concatenate([own.subchannels, np.array(borrowed, dtype=np.int64)])
    efficiency = own.spectral_efficiency_bit_per_s_per_hz
    return replace(
        Grant.spread(subchannels, own.total_tx_power_w), spectral_efficiency_bit_per_s_per_hz=efficiency
    )
