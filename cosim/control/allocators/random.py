"""Random decisions: the unoptimised baseline."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.solvers.assignment import (
    grants_of,
    random_assignment,
    random_powers,
    scaled,
    spread_powers,
)
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.rng import Stream

Decision = Literal["subchannels", "power", "cut_layer", "lora_rank"]


class Random(Allocator):
    """Each subchannel to a random client, every client at least one; powers random below the limits.

    Power is uniform on 5 to 100 % of each client's limit, then scaled to the
    link's limit on the sum. What is not in ``randomise`` is as ``equal`` has it.
    Each decision has chance of its own, so what one draws does not depend on
    whether another is drawn, nor on which allocator draws it.

    Attributes
    ----------
    randomise
        What is drawn.
    lora_ranks
        What the rank is drawn from; without them it is the scenario's.

    Source
    ------
    Baseline a of FedsLLM, arXiv 2504.14667; its exact draws are not known to us
    and the 5 % floor is our choice.
    """

    kind: Literal["random"] = "random"
    serves_tasks: ClassVar[bool] = True
    randomise: tuple[Decision, ...] = ("subchannels", "power")
    lora_ranks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"randomise": ["subchannels", "power", "cut_layer", "lora_rank"], "lora_ranks": [1, 2, 4, 8]},
        {"randomise": ["cut_layer"]},
    )

    @property
    def chooses_rank(self) -> bool:
        """Where it has ranks to draw from."""
        return bool(self.lora_ranks)

    def allocate(self, state: CellState) -> Allocation:
        """Return one random decision of the snapshot's stream."""
        grants = {name: self._share(link, state.stream) for name, link in state.links.items()}
        cut_layer, lora_rank = state.cut_layer, state.lora_rank
        if "cut_layer" in self.randomise:
            cut_layer = draw_from(state.stream, "cut_layer", state.cut_layers)
        if "lora_rank" in self.randomise and self.lora_ranks:
            lora_rank = draw_from(state.stream, "lora_rank", self.lora_ranks)
        return Allocation(grants, cut_layer, lora_rank)

    def _share(self, link: LinkState, chance: Stream) -> tuple[Grant, ...]:
        assignment = np.arange(link.num_subchannels) % link.num_clients
        if "subchannels" in self.randomise:
            assignment = random_assignment(link, chance.child(link.name, "subchannels").generator())
        powers = scaled(link.max_tx_power_w, link)
        if "power" in self.randomise:
            powers = random_powers(link, chance.child(link.name, "power").generator())
        return grants_of(assignment, spread_powers(assignment, powers), link.num_clients)


def draw_from(chance: Stream, name: str, candidates: tuple[int, ...]) -> int:
    """Return a random candidate, the same for every allocator that draws this name.

    Raises
    ------
    AllocationError
        If there is none to draw from.
    """
    if not candidates:
        raise AllocationError(f"{name} is to be drawn, but there is no candidate; give some.")
    return int(chance.child(name).generator().choice(sorted(set(candidates))))
