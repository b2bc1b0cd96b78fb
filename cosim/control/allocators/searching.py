"""What every allocator that looks for the smallest delay shares: its candidates, and its answer."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from cosim.control.allocators import Allocator
from cosim.control.closed_form import predict
from cosim.control.decision import Allocation, Plan
from cosim.control.knobs import Cut
from cosim.control.solvers.assignment import grants_of
from cosim.control.solvers.barriers import Solution
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.rounds import NumRounds, Rank, RoundsTable
from cosim.control.state import CellState
from cosim.errors import AllocationError


class Searching(Allocator, ABC):
    """Looks for the smallest total delay, rounds to target times the delay of a round.

    Attributes
    ----------
    lora_ranks
        Candidate ranks; without them, the ranks whose rounds are given, or the
        scenario's own rank.
    cut_layers
        Candidate cut layers; without them, all the model allows.
    rounds_to_target
        E(r), the rounds needed at each rank.
    rounds_table
        A file with E(r) as calibration wrote it. Without either only one rank can
        be a candidate, and its rounds count as one.
    """

    searches: ClassVar[bool] = True
    plans_senders: ClassVar[bool] = True

    lora_ranks: tuple[Rank, ...] | None = Field(default=None, min_length=1)
    cut_layers: tuple[Rank, ...] | None = Field(default=None, min_length=1)
    rounds_to_target: Mapping[Rank, NumRounds] | None = Field(default=None, min_length=1)
    rounds_table: Path | None = None

    @model_validator(mode="after")
    def _rounds_said_once(self) -> Self:
        if self.rounds_to_target is not None and self.rounds_table is not None:
            raise ValueError("rounds_to_target and rounds_table were both given; give one of them")
        if self.rounds_table is None and self.lora_ranks is not None:
            known = self.rounds_to_target
            if known is None and len(set(self.lora_ranks)) > 1:
                raise ValueError(
                    "several lora_ranks cannot be compared without the rounds each needs; "
                    "give rounds_to_target or rounds_table"
                )
            missing = sorted(set(self.lora_ranks) - set(known)) if known is not None else []
            if missing:
                raise ValueError(f"rounds_to_target has no entry for the lora_ranks {missing}")
        return self

    @property
    def chooses_rank(self) -> bool:
        """With candidates, or with rounds for each rank."""
        given = self.lora_ranks, self.rounds_to_target, self.rounds_table
        return any(one is not None for one in given)

    def num_cuts_tried(self, num_cuts: int) -> int:
        """Return how many of the cut layers there are it tries."""
        return num_cuts if self.cut_layers is None else min(num_cuts, len(set(self.cut_layers)))

    def rounds(self, state: CellState) -> RoundsTable:
        """Return E(r) as this allocator takes it.

        Raises
        ------
        ScenarioError
            If the table cannot be read.
        AllocationError
            If it was measured with another model or other data.
        """
        if self.rounds_to_target is not None:
            return RoundsTable.of(self.rounds_to_target)
        if self.rounds_table is not None:
            table = RoundsTable.read(self.rounds_table)
            table.check(state.model_hash, state.data_hash)
            return table
        return RoundsTable.of({rank: 1.0 for rank in self.lora_ranks or (state.lora_rank,)})

    def candidates(self, state: CellState) -> tuple[tuple[Cut, ...], tuple[int, ...], RoundsTable]:
        """Return the candidate cuts, the candidate ranks, and the rounds of each rank.

        Raises
        ------
        AllocationError
            If a candidate cut layer is none of the model's.
        """
        table = self.rounds(state)
        lora_ranks = (
            (state.lora_rank,) if state.is_settled else tuple(sorted(set(self.lora_ranks or table.ranks)))
        )
        if state.client_cut_layers is not None:
            return (state.client_cut_layers,), lora_ranks, table
        if state.is_settled:
            return (state.cut_layer,), lora_ranks, table
        cut_layers = tuple(sorted(set(self.cut_layers or state.cut_layers)))
        wrong = sorted(set(cut_layers) - set(state.cut_layers))
        if wrong:
            raise AllocationError(
                f"the cut layer {wrong[0]} is a candidate; "
                f"it must be {state.cut_layers[0]} to {state.cut_layers[-1]}."
            )
        return cut_layers, lora_ranks, table

    def choices(self, state: CellState) -> Choices:
        """Return all pairs of candidates with what each costs.

        Raises
        ------
        AllocationError
            If a candidate is not the model's, or the rounds of a rank are not known.
        """
        return Choices.of(state, *self.candidates(state))

    def bounding_choices(self, state: CellState) -> Choices:
        """Return choices whose bound holds for whatever this allocator may decide."""
        return self.choices(state)


def decide(
    state: CellState,
    choices: Choices,
    choice: int,
    solution: Solution,
    objective_trace_s: tuple[float, ...] = (),
    lower_bound_s: float | None = None,
    notes: Mapping[str, float | str] | None = None,
) -> Allocation:
    """Return the decision with the delay to expect of it."""
    grants = {
        link: grants_of(assignment, powers.tx_power_w, state.num_clients)
        for link, (assignment, powers) in solution.items()
    }
    cut, lora_rank = choices.cuts[choice], int(choices.lora_ranks[choice])
    bare = Allocation(grants, 1, lora_rank).cut_at(cut)
    rounds = float(choices.rounds[choice])
    round_s = predict(state, bare).round_s
    plan = Plan(
        round_s=round_s,
        rounds_to_target=rounds,
        total_s=rounds * round_s,
        objective_trace_s=objective_trace_s,
        lower_bound_s=lower_bound_s,
        notes=notes or {},
    )
    return replace(bare, plan=plan)
