"""Exact: the best assignment, power, cut layer and rank, with the proof or what is missing of it."""

import logging
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from cosim.control.allocators.refined import refine
from cosim.control.allocators.searching import Searching, decide
from cosim.control.decision import Allocation
from cosim.control.proving.bound import tighten
from cosim.control.proving.effort import Effort
from cosim.control.proving.prove import prove
from cosim.control.solvers.barriers import Barriers, Solution
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.power_control import Powers
from cosim.control.state import CellState
from cosim.units import Floats, Ints

_log = logging.getLogger(__name__)
_OLD_LIMIT = "time_limit_s"
_STEPS_PER_S = 10_000
_MOST_STEPS = 10**15
_TIGHTENING_STEPS = 60


class Exact(Searching):
    """The least total delay over assignment, powers, cut layer and rank together, to within ``gap``.

    Power is exact for every assignment looked at; the best assignment are not those
    of any fixed power. Begins at the answer of ``refined``, so it is never worse.
    Choices whose bound lies above the best total known are not looked at.

    Where all subchannels of a link are alike it is quick at any size, and up to
    20 subchannels of different gains take seconds. Beyond, a limit ends the
    search, ``plan.lower_bound_s`` says what is proven all the same, and
    ``plan.notes["stopped_by"]`` which limit it was: ``work_limit``, ``node_limit``,
    or ``too_many_sets`` where nearly alike subchannels leave too many to list.
    No limit asks a clock, so that a decision is the same on a slower machine.

    Attributes
    ----------
    gap
        How far the answer may lie above the optimum, as a share.
    work_limit
        Steps of work for one decision; one works on some ten thousand numbers. A
        core of today makes about 10 000 a second. Its old name, ``time_limit_s``, is
        taken as so many seconds of them.
    node_limit
        Branch-and-bound nodes for one barrier of more than 20 subchannels.
    """

    kind: Literal["exact"] = "exact"
    gap: float = Field(default=1e-3, gt=0.0, lt=1.0)
    work_limit: int = Field(default=600_000, ge=1)
    node_limit: int = Field(default=100_000, ge=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"node_limit": 300},
        {"rounds_to_target": {"1": 60.0, "4": 44.0}, "node_limit": 300},
    )

    @model_validator(mode="before")
    @classmethod
    def _time_is_work(cls, given: Any) -> Any:
        """Take the limit in seconds, under which decisions depended on the machine, as one of work."""
        if not isinstance(given, dict) or _OLD_LIMIT not in given:
            return given
        limit_s = given[_OLD_LIMIT]
        if type(limit_s) not in (int, float) or not limit_s > 0.0:
            raise ValueError(f"{_OLD_LIMIT} is work_limit now, in steps: give a number of them above 0")
        limit = max(1, round(min(limit_s * _STEPS_PER_S, _MOST_STEPS)))
        _log.warning(
            "allocator 'exact': %s = %s is taken as work_limit = %d, its new name: "
            "steps are the same on every machine, and seconds are not",
            _OLD_LIMIT,
            limit_s,
            limit,
        )
        return {name: value for name, value in given.items() if name != _OLD_LIMIT} | {"work_limit": limit}

    def allocate(self, state: CellState) -> Allocation:
        """Return the best decision found, with the bound proven for it."""
        choices = self.choices(state)
        search = _Search(self, choices)
        best, solution, trace = search.run()
        bound_s = min(float(choices.total_s(search.bounds).min()), trace[-1])
        notes: dict[str, float | str] = {"steps": search.num_steps, "proven_barriers": len(search.proven)}
        if search.stopped_by:
            notes["stopped_by"] = search.stopped_by
        return decide(state, choices, best, solution, trace, bound_s, notes)


class _Search:
    """Looks at choices in the order of their bounds until none can beat the best."""

    def __init__(self, settings: Exact, choices: Choices) -> None:
        self.settings = settings
        self.choices = choices
        self.barriers = Barriers(choices)
        self.bounds: dict[str, Floats] = {
            link: choices.compute_s[link].max(axis=1) for link in choices.phases
        }
        self.proven: dict[tuple[str, int], Ints] = {}
        self.num_steps = 0
        self.stopped_by = ""
        self._bounded: set[tuple[str, int]] = set()
        self.effort = Effort(settings.work_limit)

    def run(self) -> tuple[int, Solution, tuple[float, ...]]:
        """Return choice, solution and the trace of the best total, s."""
        best, solution, trace = refine(self.choices, max_passes=200)
        totals = list(trace)
        while not self._is_over():
            self.effort.spend(len(self.choices))
            floor = self.choices.total_s(self.bounds)
            is_closed = [
                all((link, choice) in self.proven for link in self.choices.phases)
                for choice in range(len(self.choices))
            ]
            floor[is_closed] = np.inf
            choice = int(floor.argmin())
            if floor[choice] >= totals[-1] * (1.0 - self.settings.gap):
                break
            if self._tighten(choice):
                continue
            self._prove(choice, solution, totals[-1])
            found = {link: self._solved(link, choice) for link in self.choices.phases}
            total = self.barriers.total_s(choice, found)
            if total < totals[-1]:
                best, solution = choice, found
                totals.append(total)
        return best, solution, tuple(totals)

    def _is_over(self) -> bool:
        if self.effort.is_spent:
            self.stopped_by = "work_limit"
        return self.stopped_by == "work_limit"

    def _solved(self, link: str, choice: int) -> tuple[Ints, Powers]:
        assignment = self.proven[link, choice]
        return assignment, self.barriers.power(link, choice, assignment)

    def _tighten(self, choice: int) -> bool:
        """Raise the bounds of a choice by prices, once; return whether that was still to be done."""
        todo = [link for link in self.choices.phases if (link, choice) not in self._bounded]
        for link in todo:
            tighten(self.choices, link, choice, self.bounds)
            self.effort.spend(self.choices.phase(link, choice).gains.size, _TIGHTENING_STEPS)
            self._bounded.update((link, other) for other in self.choices.alike(link, choice))
        return bool(todo)

    def _prove(self, choice: int, known: Solution, best_total: float) -> None:
        """Solve the barriers of a choice that are not solved yet, each no further than it could matter."""
        for link in self.choices.phases:
            if (link, choice) in self.proven:
                continue
            candidates = (known[link][0], self.barriers.assign(link, choice))
            start = min(candidates, key=lambda one: self.barriers.power(link, choice, one).deadline_s)
            phase, alike = self.choices.phase(link, choice), self.choices.alike(link, choice)
            if not phase.bits.any():  # nothing is sent: any assignment will do
                self.proven[link, choice] = start
                continue
            spare = best_total - float(self.choices.total_s(self.bounds)[choice])
            cutoff = float(self.bounds[link][choice]) + spare / self.choices.weight(link, choice)
            found = prove(
                phase,
                start,
                bound_s=float(self.bounds[link][choice]),
                cutoff_s=cutoff if len(alike) == 1 else np.inf,
                gap=0.5 * self.settings.gap,
                max_nodes=self.settings.node_limit,
                effort=self.effort,
            )
            self.num_steps += found.num_steps
            self.stopped_by = self.stopped_by or found.stopped_by
            for other in alike:
                bits = self.choices.bits[link].max(axis=1)
                scale = bits[other] / bits[choice]
                self.proven[link, other] = found.assignment
                self.bounds[link][other] = max(self.bounds[link][other], found.bound_s * scale)
