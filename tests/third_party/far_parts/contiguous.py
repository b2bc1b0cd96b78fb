"""Allocator: neighbouring subchannels."""

from typing import Literal

import numpy as np

from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.state import CellState, LinkState
from cosim.radio.grant import Grant


class Contiguous(Allocator):
    """Every client as many neighbouring subchannels, as single-carrier uplinks need them."""

    kind: Literal["far_contiguous"] = "far_contiguous"

    def allocate(self, state: CellState) -> Allocation:
        """Return pieces of each band; cut layer and rank as the scenario has them."""
        grants = {name: _pieces(link) for name, link in state.links.items()}
        return Allocation(grants, state.cut_layer, state.lora_rank)


def _pieces(link: LinkState) -> tuple[Grant, ...]:
    powers = link.max_tx_power_w * min(1.0, link.max_total_tx_power_w / float(link.max_tx_power_w.sum()))
    pieces = np.array_split(np.arange(link.num_subchannels), link.num_clients)
    return tuple(Grant.spread(piece, power) for piece, power in zip(pieces, powers, strict=True))
