"""Shared in time: the whole band to one client at a time."""

from typing import ClassVar, Literal

import numpy as np

from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.state import CellState
from cosim.radio.grant import Grant


class TimeShared(Allocator):
    """First come, first served: one client at a time has every subchannel, at full power.

    Time division, so any number of clients can be served.
    """

    kind: Literal["time_shared"] = "time_shared"
    former_kinds: ClassVar[tuple[str, ...]] = ("in_turn",)
    shares_in_time: ClassVar[bool] = True
    serves_tasks: ClassVar[bool] = True
    sees_gains: ClassVar[bool] = False

    def allocate(self, state: CellState) -> Allocation:
        """Return the whole band for everybody."""
        return Allocation(whole_bands(state), state.cut_layer, state.lora_rank)


def whole_bands(state: CellState) -> dict[str, tuple[Grant, ...]]:
    """Return the whole band of every link, for everybody at full power."""
    return {
        name: tuple(
            Grant.spread(np.arange(link.num_subchannels), min(power, link.max_total_tx_power_w))
            for power in link.max_tx_power_w.tolist()
        )
        for name, link in state.links.items()
    }
