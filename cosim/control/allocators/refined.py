"""Refined: the nested search's answer, bettered by moves and swaps of subchannels."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators.searching import Searching, decide
from cosim.control.decision import Allocation
from cosim.control.solvers.barriers import Barriers, Solution
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.exchange import improve
from cosim.control.state import CellState
from cosim.units import Ints


class Refined(Searching):
    """Local search over the assignment, with exact power for each change.

    Where gains differ between subchannels the greedy assignment is not optimal: it
    judges a client at a power spread evenly, and never takes back what it gave.
    Here subchannels are moved and swapped until nothing helps; then all cut
    layers and ranks are tried with the assignment found, and a better one is refined
    in turn. Never worse than ``nested``. Beyond the paper.

    Attributes
    ----------
    max_passes
        Passes of moves or swaps for one barrier; each judges all of them.
    """

    kind: Literal["refined"] = "refined"
    max_passes: int = Field(default=200, ge=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rounds_to_target": {"1": 60.0, "4": 44.0}, "max_passes": 5},
    )

    def allocate(self, state: CellState) -> Allocation:
        """Return the refined decision."""
        choices = self.choices(state)
        choice, solution, trace = refine(choices, self.max_passes)
        return decide(state, choices, choice, solution, objective_trace_s=trace)


def refine(choices: Choices, max_passes: int) -> tuple[int, Solution, tuple[float, ...]]:
    """Return choice, solution and the trace of totals, s, of a refined search."""
    barriers = Barriers(choices)
    solutions = [barriers.solve(choice) for choice in range(len(choices))]
    totals = np.array([barriers.total_s(at, solution) for at, solution in enumerate(solutions)])
    best = int(totals.argmin())
    trace = [float(totals[best])]
    solution: Solution = solutions[best]
    while True:
        solution = {
            link: improve(choices.phase(link, best), assignment, max_passes)
            for link, (assignment, _) in solution.items()
        }
        trace.append(barriers.total_s(best, solution))
        assignment = {link: owned for link, (owned, _) in solution.items()}
        others = [_with_owners(barriers, choice, assignment) for choice in range(len(choices))]
        totals = np.array([barriers.total_s(at, other) for at, other in enumerate(others)])
        better = int(totals.argmin())
        if better == best or totals[better] >= trace[-1] * (1.0 - 1e-9):
            return best, solution, tuple(trace)
        best, solution = better, others[better]
        trace.append(float(totals[best]))


def _with_owners(barriers: Barriers, choice: int, assignment: dict[str, Ints]) -> Solution:
    return {link: (owned, barriers.power(link, choice, owned)) for link, owned in assignment.items()}
