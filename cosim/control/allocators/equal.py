"""Equal shares: subchannels in turn, power spread evenly."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal

import numpy as np

from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.solvers.assignment import check_enough
from cosim.control.state import CellState, LinkState
from cosim.radio.grant import Grant
from cosim.units import Floats, Ints


class Equal(Allocator):
    """Subchannels round robin; every client at full power, spread evenly over its own.

    Where a link's limit on the sum is lower than the clients' limits together,
    all powers are scaled by the same factor. Baseline e of the FedsLLM
    comparison without its choice of cut layer and rank.
    """

    kind: Literal["equal"] = "equal"
    serves_tasks: ClassVar[bool] = True
    sees_gains: ClassVar[bool] = False

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


def shares_among(link: LinkState, clients: Collection[int]) -> tuple[Grant, ...]:
    """Return round robin grants of some clients at full power; the others have none.

    Raises
    ------
    AllocationError
        If there are fewer subchannels than these clients.
    """
    sending = sorted(clients)
    check_enough(link.name, len(sending), link.num_subchannels)
    turns = {
        client: np.arange(turn, link.num_subchannels, len(sending)) for turn, client in enumerate(sending)
    }
    return full_power(link, turns)


def full_power(link: LinkState, subchannels: Mapping[int, Ints]) -> tuple[Grant, ...]:
    """Return grants of these subchannels at full power, as far as the limit on the sum allows."""
    limits = link.max_tx_power_w[list(subchannels)]
    powers = limits * min(1.0, link.max_total_tx_power_w / max(float(limits.sum()), 1e-300))
    grants = [Grant(np.zeros(0, dtype=np.int64), np.zeros(0))] * link.num_clients
    for power, (client, own) in zip(powers.tolist(), subchannels.items(), strict=True):
        grants[client] = Grant.spread(own, power)
    return tuple(grants)
