"""Equal shares: subchannels in turn, power spread evenly."""

from typing import ClassVar, Literal

import numpy as np

from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.state import CellState, LinkState
from cosim.radio.grant import Grant
from cosim.units import Floats


class Equal(Allocator):
    """Subchannels round robin; every client at full power, spread evenly over its own.

    Where a link's limit on the sum is lower than the clients' limits together,
    all powers are scaled by the same factor. Baseline e of the FedsLLM
    comparison without its choice of cut layer and rank.
    """

    kind: Literal["equal"] = "equal"
    serves_tasks: ClassVar[bool] = True

    def allocate(self, state: CellState) -> Allocation:
        """Return round robin grants; cut layer and rank as the scenario has them."""
        grants = {name: equal_shares(link) for name, link in state.links.items()}
        return Allocation(grants, state.cut_layer, state.lora_rank)


def equal_shares(link: LinkState) -> tuple[Grant, ...]:
    """Return round robin grants at even powers."""
    powers = even_powers(link)
    return tuple(
        Grant.spread(np.arange(client, link.num_subchannels, link.num_clients), powers[client])
        for client in range(link.num_clients)
    )


def even_powers(link: LinkState) -> Floats:
    """Return each client's total power, W: its limit, scaled down to the link's limit on the sum."""
    scale = min(1.0, link.max_total_tx_power_w / float(link.max_tx_power_w.sum()))
    return link.max_tx_power_w * scale
