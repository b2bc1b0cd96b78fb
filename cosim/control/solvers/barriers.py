"""Barriers of choices, solved once each: who owns what, at what power."""

from collections.abc import Callable, Mapping

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import Powers, control_power
from cosim.units import Floats, Ints

Solution = Mapping[str, tuple[Ints, Powers]]
"""For each link that counts, the owner of each subchannel and the powers."""


class Barriers:
    """Solves barriers of the choices, each kind once.

    A barrier whose times are all scaled has the same assignment and powers, so one
    answer serves every choice that differs in nothing else; adapter uploads of
    all ranks and cut layers are one such barrier.
    """

    def __init__(
        self,
        choices: Choices,
        assign: Callable[[Phase], Ints] = greedy_assignment,
        control: Callable[[Phase, Ints], Powers] = control_power,
    ) -> None:
        """Take the choices, and how subchannels are assigned and power is controlled for a barrier."""
        self.choices = choices
        self._assign = assign
        self._control = control
        self._assigned: dict[tuple[str, bytes], Ints] = {}
        self._solved: dict[tuple[str, bytes, bytes], Powers] = {}

    def assign(self, link: str, choice: int) -> Ints:
        """Return the owner of each subchannel."""
        phase = self.choices.phase(link, choice)
        key = (link, _shape_of(phase))
        if key not in self._assigned:
            self._assigned[key] = self._assign(phase)
        return self._assigned[key]

    def power(self, link: str, choice: int, assignment: Ints) -> Powers:
        """Return the powers for these assignment."""
        phase = self.choices.phase(link, choice)
        key = (link, _shape_of(phase), assignment.tobytes())
        if key not in self._solved:
            self._solved[key] = self._control(phase, assignment)
        found = self._solved[key]
        finish = float(phase.finish_s(found.rates_bit_per_s).max())
        return Powers(finish, found.tx_power_w, found.rates_bit_per_s)

    def solve(self, choice: int) -> dict[str, tuple[Ints, Powers]]:
        """Return assignment and powers on every link."""
        solution = {}
        for link in self.choices.phases:
            assignment = self.assign(link, choice)
            solution[link] = (assignment, self.power(link, choice, assignment))
        return solution

    def total_s(self, choice: int, solution: Solution) -> float:
        """Return the delay of all rounds of a choice under a solution, s."""
        return float(self.choices.total_s(self.choices.deadlines_at(rates_of(solution)))[choice])


def rates_of(solution: Solution) -> dict[str, Floats]:
    """Return each client's rate on each link, bit/s."""
    return {link: powers.rates_bit_per_s for link, (_, powers) in solution.items()}


def _shape_of(phase: Phase) -> bytes:
    """Return what a barrier is, up to a common factor of all its times."""
    scale = float(phase.bits.max()) or 1.0
    return np.concatenate([phase.compute_s / scale, phase.bits / scale]).tobytes()
