"""How far any allocator's decision lies above the best possible."""

from dataclasses import replace

from cosim.control.allocators import Allocator
from cosim.control.allocators.searching import Searching
from cosim.control.decision import Allocation, Plan
from cosim.control.proving.bound import lower_bound_s
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.state import CellState
from cosim.errors import AllocationError

_MOST_PAIRS = 1000
"""Clients times subchannels of a link beyond which a bound nobody searched for takes seconds."""


def with_bound(state: CellState, allocation: Allocation, plan: Plan, allocator: Allocator) -> Plan:
    """Return the plan with a lower bound on its total: the allocator's own, or the relaxation's.

    An allocator that searches is held against all its candidates; any other,
    which takes cut layer and rank as they come, against the best grants for them.

    Raises
    ------
    AllocationError
        If a link's rate is not Shannon's, on which the bound rests, or the cell
        is large and its allocator does not search.
    """
    if plan.lower_bound_s is not None:
        return plan
    if isinstance(allocator, Searching):
        choices = allocator.bounding_choices(state)
    else:
        pairs = max((link.gains.size for link in state.links.values()), default=0)
        if pairs > _MOST_PAIRS:
            raise AllocationError(
                f"a bound for {pairs} pairs of client and subchannel takes seconds, and {allocator.kind!r} "
                "does not search; ask cosim.control.proving.bound.gap_to_bound for it."
            )
        rounds = RoundsTable.of({allocation.lora_rank: plan.rounds_to_target})
        choices = Choices.of(state, (allocation.cut,), (allocation.lora_rank,), rounds)
    return replace(plan, lower_bound_s=lower_bound_s(choices)[0])
