"""FedsLLM: subchannels, power, cut layer and rank chosen together by block coordinate descent."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators.own_cuts import OwnCuts
from cosim.control.allocators.random import Decision, draw_from
from cosim.control.allocators.searching import decide
from cosim.control.closed_form import Phase
from cosim.control.decision import Allocation
from cosim.control.knobs import Cut, layers_of
from cosim.control.solvers.assignment import random_assignment, random_powers, spread_powers
from cosim.control.solvers.barriers import Barriers, Solution, rates_of
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import Powers, control_power
from cosim.control.state import CellState
from cosim.units import Ints

Start = Literal["first", "middle", "last", "scenario"]
Assign = Callable[[Phase], Ints]
Control = Callable[[Phase, Ints], Powers]


class Fedsllm(OwnCuts):
    """Block coordinate descent over what the air allows and what the model is cut into.

    One block assigns the subchannels greedily and controls the power exactly; the
    other tries every cut layer and rank at the rates that gave. After power
    control all clients finish together, so any other cut looks bad at frozen
    rates and the descent can stall where it began; it is therefore begun at
    several cut layers and the best end is taken.

    With ``randomise`` some of the decisions are drawn, as ``random`` draws them,
    and the rest is optimised around them: ``["subchannels", "power"]``,
    ``["cut_layer"]`` and ``["lora_rank"]`` are baselines b, c and d of the paper.
    To fix a cut layer or rank rather, leave it as the only candidate.

    Attributes
    ----------
    starts
        Cut layers to begin at, of the candidates; the paper has one.
    tolerance
        The descent ends when a pass wins less than this share.
    max_iterations
        The descent ends after this many passes.
    randomise
        Decisions drawn at random.

    Source
    ------
    FedsLLM, arXiv 2504.14667. Beginning at several cut layers and keeping the
    assigned subchannels when a new assignment would be worse are ours (method card 1,
    section 7.5); the second makes the trace fall.
    """

    kind: Literal["fedsllm"] = "fedsllm"
    starts: tuple[Start, ...] = Field(default=("first", "middle", "last"), min_length=1)
    tolerance: float = Field(default=1e-4, ge=0.0)
    max_iterations: int = Field(default=20, ge=1)
    randomise: tuple[Decision, ...] = ()
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rounds_to_target": {"1": 60.0, "2": 50.0, "4": 44.0, "8": 43.9}},
        {"randomise": ["subchannels", "power"]},
        {"randomise": ["cut_layer"]},
        {"cut_per_client": True},
        {"randomise": ["power", "lora_rank"], "rounds_to_target": {"1": 60.0, "4": 44.0}},
    )

    def allocate(self, state: CellState) -> Allocation:
        """Return the best end of the descents, with the trace of the one that led to it."""
        choices = self._choices(state)
        blocks = self._blocks(state)
        barriers = Barriers(choices, *blocks)
        begins = dict.fromkeys(self._begin(choices, state, start) for start in self.starts)
        ends = [self._descend(barriers, begin) for begin in begins]
        choice, solution, trace = min(ends, key=lambda end: end[2][-1])
        best = decide(state, choices, choice, solution, objective_trace_s=trace)
        return self.with_own_cuts(state, best, lambda choices: Barriers(choices, *blocks))

    def _may_move(self, state: CellState) -> bool:
        return super()._may_move(state) and "cut_layer" not in self.randomise

    def _choices(self, state: CellState) -> Choices:
        """Return the candidates that are left once the random ones are drawn."""
        cut_layers: tuple[Cut, ...]
        cut_layers, lora_ranks, table = self.candidates(state)
        if "cut_layer" in self.randomise and state.client_cut_layers is None:
            cut_layers = (draw_from(state.stream, "cut_layer", layers_of(cut_layers)),)
        if "lora_rank" in self.randomise:
            lora_ranks = (draw_from(state.stream, "lora_rank", lora_ranks),)
        return Choices.of(state, cut_layers, lora_ranks, table)

    def _blocks(self, state: CellState) -> tuple[Assign, Control]:
        """Return how subchannels are assigned and power is set: by search, or once by chance."""
        assign: Assign = greedy_assignment
        control: Control = control_power
        chance = state.stream
        if "subchannels" in self.randomise:
            assignment = {
                name: random_assignment(link, chance.child(name, "subchannels").generator())
                for name, link in state.links.items()
            }

            def assign(phase: Phase) -> Ints:
                return assignment[phase.link]

        if "power" in self.randomise:
            powers = {
                name: random_powers(link, chance.child(name, "power").generator())
                for name, link in state.links.items()
            }

            def control(phase: Phase, assignment: Ints) -> Powers:
                tx_power_w = spread_powers(assignment, powers[phase.link])
                rates = phase.rates(assignment, tx_power_w)
                return Powers(float(phase.finish_s(rates).max()), tx_power_w, rates)

        return assign, control

    def _begin(self, choices: Choices, state: CellState, start: Start) -> int:
        cuts = np.unique(choices.cut_layers)
        places = {"first": cuts[0], "middle": cuts[(len(cuts) - 1) // 2], "last": cuts[-1]}
        return choices.nearest(int(places.get(start, state.cut_layer)), state.lora_rank)

    def _descend(self, barriers: Barriers, choice: int) -> tuple[int, Solution, tuple[float, ...]]:
        """Return choice, solution and trace of one descent; the trace never rises."""
        choices = barriers.choices
        solution: dict[str, tuple[Ints, Powers]] = {}
        trace: list[float] = []
        before = np.inf
        for _ in range(self.max_iterations):
            for link in choices.phases:
                assignment = barriers.assign(link, choice)
                new = assignment, barriers.power(link, choice, assignment)
                if link in solution:
                    assignment = solution[link][0]
                    old = assignment, barriers.power(link, choice, assignment)
                    new = min(old, new, key=lambda one: one[1].deadline_s)
                solution[link] = new
            totals = choices.total_s(choices.deadlines_at(rates_of(solution)))
            trace.append(float(totals[choice]))
            choice = int(totals.argmin())
            trace.append(float(totals[choice]))
            if before - trace[-1] <= self.tolerance * trace[-1]:
                break
            before = trace[-1]
        return choice, solution, tuple(trace)
