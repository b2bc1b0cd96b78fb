"""Random shares: the unoptimised baseline."""

from typing import Literal

import numpy as np

from cosim.allocation import Allocator
from cosim.allocation.decision import Allocation
from cosim.allocation.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant

Decision = Literal["subchannels", "power", "cut_layer"]


class Random(Allocator):
    """Each subchannel to a random client, every client at least one; powers random below the limits.

    Power is uniform on 5 to 100 % of each client's limit, then scaled to the
    link's limit on the sum. What is not in ``randomise`` is as ``equal`` has it.

    Source
    ------
    Baseline a of FedsLLM, arXiv 2504.14667; its exact draws are not known to us
    and the 5 % floor is our choice.
    """

    kind: Literal["random"] = "random"
    randomise: tuple[Decision, ...] = ("subchannels", "power")

    def allocate(self, state: CellState) -> Allocation:
        """Return one random decision of the snapshot's stream."""
        grants = {
            name: self._share(link, state.stream.child(name).generator())
            for name, link in state.links.items()
        }
        cut_layer = state.cut_layer
        if "cut_layer" in self.randomise:
            cut_layer = int(state.stream.child("cut_layer").generator().choice(state.cut_layers))
        return Allocation(grants, cut_layer, state.lora_rank)

    def _share(self, link: LinkState, rng: np.random.Generator) -> tuple[Grant, ...]:
        owners = np.arange(link.num_subchannels) % link.num_clients
        if "subchannels" in self.randomise:
            if link.num_subchannels < link.num_clients:
                raise AllocationError(
                    f"{link.name}: {link.num_clients} clients cannot each have one of "
                    f"{link.num_subchannels} subchannels; use 'in_turn', or give the link more subchannels."
                )
            spare = link.num_subchannels - link.num_clients
            owners = np.concatenate([np.arange(link.num_clients), rng.integers(link.num_clients, size=spare)])
            rng.shuffle(owners)
        powers = link.max_tx_power_w
        if "power" in self.randomise:
            powers = powers * rng.uniform(0.05, 1.0, size=link.num_clients)
        powers = powers * min(1.0, link.max_total_tx_power_w / float(powers.sum()))
        return tuple(
            Grant.spread(np.flatnonzero(owners == client), powers[client])
            for client in range(link.num_clients)
        )
