"""Nested search: subchannels and power solved for every cut layer and rank."""

from typing import Literal

import numpy as np

from cosim.allocation.decision import Allocation
from cosim.allocation.search import Barriers, Searching, decide
from cosim.allocation.state import CellState


class Nested(Searching):
    """Greedy subchannels and exact power for each candidate, then the best of them.

    The reference the block descent of ``fedsllm`` is measured against.

    Source
    ------
    Method card 1 (FedsLLM), section 7.5.
    """

    kind: Literal["nested"] = "nested"

    def allocate(self, state: CellState) -> Allocation:
        """Return the best of all candidates."""
        choices = self.choices(state)
        barriers = Barriers(choices)
        solutions = [barriers.solve(choice) for choice in range(len(choices))]
        totals = [barriers.total_s(choice, solution) for choice, solution in enumerate(solutions)]
        best = int(np.argmin(totals))
        return decide(state, choices, best, solutions[best])
