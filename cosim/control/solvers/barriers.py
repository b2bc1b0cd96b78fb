"""Barriers of choices, solved once each: who owns what, at what power."""

from collections.abc import Callable, Mapping

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.greedy import greedy_owners
from cosim.control.solvers.power_control import Powers, control_power
from cosim.units import Floats, Ints

Solution = Mapping[str, tuple[Ints, Powers]]
"""For each link that counts, the owner of each subchannel and the powers."""


class Barriers:
    """Solves barriers of the choices, each kind once.

    A barrier whose times are all scaled has the same owners and powers, so one
    answer serves every choice that differs in nothing else; adapter uploads of
    all ranks and cut layers are one such barrier.
    """

    def __init__(
        self,
        choices: Choices,
        deal: Callable[[Phase], Ints] = greedy_owners,
        control: Callable[[Phase, Ints], Powers] = control_power,
    ) -> None:
        """Take the choices, and how subchannels are dealt and power is controlled for a barrier."""
        self.choices = choices
        self._deal = deal
        self._control = control
        self._dealt: dict[tuple[str, bytes], Ints] = {}
        self._solved: dict[tuple[str, bytes, bytes], Powers] = {}

    def deal(self, link: str, choice: int) -> Ints:
        """Return the owner of each subchannel."""
        phase = self.choices.phase(link, choice)
        key = (link, _shape_of(phase))
        if key not in self._dealt:
            self._dealt[key] = self._deal(phase)
        return self._dealt[key]

    def power(self, link: str, choice: int, owners: Ints) -> Powers:
        """Return the powers for these owners."""
        phase = self.choices.phase(link, choice)
        key = (link, _shape_of(phase), owners.tobytes())
        if key not in self._solved:
            self._solved[key] = self._control(phase, owners)
        found = self._solved[key]
        finish = float(phase.finish_s(found.rates_bit_per_s).max())
        return Powers(finish, found.tx_power_w, found.rates_bit_per_s)

    def solve(self, choice: int) -> dict[str, tuple[Ints, Powers]]:
        """Return owners and powers on every link."""
        solution = {}
        for link in self.choices.phases:
            owners = self.deal(link, choice)
            solution[link] = (owners, self.power(link, choice, owners))
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
