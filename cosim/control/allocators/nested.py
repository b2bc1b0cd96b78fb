"""Nested search: subchannels and power solved for every cut layer and rank."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.control.allocators.own_cuts import OwnCuts
from cosim.control.allocators.searching import decide
from cosim.control.decision import Allocation
from cosim.control.solvers.barriers import Barriers
from cosim.control.state import CellState


class Nested(OwnCuts):
    """Greedy subchannels and exact power for each candidate, then the best of them.

    The reference the block descent of ``fedsllm`` is measured against. With
    ``cut_per_client`` the cut of each client is then moved by itself.

    Source
    ------
    Method card 1 (FedsLLM), section 7.5.
    """

    kind: Literal["nested"] = "nested"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"cut_per_client": True})

    def allocate(self, state: CellState) -> Allocation:
        """Return the best of all candidates."""
        choices = self.choices(state)
        barriers = Barriers(choices)
        solutions = [barriers.solve(choice) for choice in range(len(choices))]
        totals = [barriers.total_s(choice, solution) for choice, solution in enumerate(solutions)]
        best = int(np.argmin(totals))
        return self.with_own_cuts(state, decide(state, choices, best, solutions[best]), Barriers)
