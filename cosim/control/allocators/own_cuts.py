"""A cut layer of its own for each client: coordinate descent that begins at the best common cut."""

from abc import ABC
from collections.abc import Callable
from dataclasses import replace

from pydantic import Field

from cosim.control.allocators.searching import Searching, decide
from cosim.control.decision import Allocation
from cosim.control.knobs import Cut, layers_of
from cosim.control.solvers.barriers import Barriers, Solution
from cosim.control.solvers.choices import Choices
from cosim.control.state import CellState

MakeBarriers = Callable[[Choices], Barriers]


class OwnCuts(Searching, ABC):
    """Looks for the smallest total delay, and may cut the model elsewhere for each client.

    Attributes
    ----------
    cut_per_client
        Once the best common cut is found, move the cut of one client at a time,
        subchannels and power solved again for each, while the total falls; the
        rank stays. Never worse than the common cut, and beyond the paper. Changes
        nothing where the scheme cuts all at the same, or the scenario says who is cut where.
    max_sweeps
        Sweeps over all clients after which that ends.
    """

    cut_per_client: bool = False
    max_sweeps: int = Field(default=10, ge=1)

    def bounding_choices(self, state: CellState) -> Choices:
        """Return the candidates; with cuts of their own, what no choice of them can be below."""
        if not self._may_move(state):
            return self.choices(state)
        cuts, lora_ranks, rounds = self.candidates(state)
        return Choices.least(state, layers_of(cuts), lora_ranks, rounds)

    def _may_move(self, state: CellState) -> bool:
        is_open = not state.is_settled and state.client_cut_layers is None
        return self.cut_per_client and state.may_cut_apart and is_open

    def with_own_cuts(self, state: CellState, best: Allocation, make_barriers: MakeBarriers) -> Allocation:
        """Return the decision with a cut for each client where that is faster.

        Parameters
        ----------
        best
            The decision at the best common cut, with its plan.
        make_barriers
            Returns who solves the barriers of some choices, as they were solved for ``best``.
        """
        if not self._may_move(state) or best.plan is None:
            return best
        layers, _, rounds = self.candidates(state)
        cuts = (best.cut_layer,) * state.num_clients
        trace = list(best.plan.objective_trace_s) or [best.plan.total_s]
        total = best.plan.total_s
        solved: dict[Cut, tuple[float, Choices, Solution]] = {}

        def solve(cut: Cut) -> float:
            if cut not in solved:
                choices = Choices.of(state, (cut,), (best.lora_rank,), rounds)
                barriers = make_barriers(choices)
                solution = barriers.solve(0)
                solved[cut] = barriers.total_s(0, solution), choices, solution
            return solved[cut][0]

        for _ in range(self.max_sweeps):
            before = cuts
            for client in range(state.num_clients):
                moved = [(*cuts[:client], layer, *cuts[client + 1 :]) for layer in layers_of(layers)]
                fastest = min(moved, key=solve)
                if solve(fastest) < total * (1.0 - 1e-12):
                    cuts, total = fastest, solve(fastest)
                    trace.append(total)
            if cuts == before:
                break
        if len(set(cuts)) == 1 and cuts[0] == best.cut_layer:
            return best
        _, choices, solution = solved[cuts]
        found = decide(state, choices, 0, solution, tuple(trace))
        if len(set(cuts)) == 1:
            return replace(found, client_cut_layers=None)
        return found
