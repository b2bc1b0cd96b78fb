"""Every cut layer and rank a search may choose, and what each would cost.

The amounts of all choices are laid out as arrays once, so that a whole grid of
them is judged in a few array operations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cosim.control.closed_form import Phase, airtime_s, phase_of
from cosim.control.knobs import Cut, Setting
from cosim.control.legs import Leg, least_of, legs_of, refuse_measured, servers_s
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.state import CellState
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Choices:
    """Candidates for cut layer and rank, one row each.

    Attributes
    ----------
    cuts, lora_ranks, rounds
        The choices, num_choices of them, and the rounds to target of each.
    compute_s
        For each barrier, by its link, what clients compute within it, s, shape
        (num_choices, num_clients); those without a link that counts are here too.
    bits
        For each link that counts, what clients send, shape (num_choices, num_clients).
    times
        How often each barrier is waited for in a round, shape (num_choices,).
    server_s
        The servers' work in a round, s, shape (num_choices,).
    phases
        For each link that counts, its barrier, for the first choice.
    """

    cuts: tuple[Cut, ...]
    lora_ranks: Ints
    rounds: Floats
    compute_s: Mapping[str, Floats]
    bits: Mapping[str, Floats]
    times: Mapping[str, Floats]
    server_s: Floats
    phases: Mapping[str, Phase]

    @classmethod
    def of(
        cls, state: CellState, cuts: Sequence[Cut], lora_ranks: Sequence[int], rounds: RoundsTable
    ) -> Self:
        """Return all pairs of these cuts and ranks, in this order.

        Raises
        ------
        AllocationError
            If the rounds of a rank are not known, or for a link's rate as :func:`phase_of`.
        """
        pairs = [(cut, rank) for cut in cuts for rank in lora_ranks]
        return cls._of(state, pairs, [_legs(state, *pair) for pair in pairs], rounds)

    @classmethod
    def least(
        cls, state: CellState, cut_layers: tuple[int, ...], lora_ranks: Sequence[int], rounds: RoundsTable
    ) -> Self:
        """Return one row a rank that costs no more than any cuts, one for each client; for bounds only.

        Raises
        ------
        AllocationError
            As for :meth:`of`.
        """
        pairs = [(cut_layers[0], rank) for rank in lora_ranks]
        least = [least_of([_legs(state, cut, rank) for cut in cut_layers]) for rank in lora_ranks]
        return cls._of(state, pairs, least, rounds)

    @classmethod
    def _of(
        cls,
        state: CellState,
        pairs: Sequence[tuple[Cut, int]],
        every: Sequence[tuple[Leg, ...]],
        rounds: RoundsTable,
    ) -> Self:
        slowness = 1.0 / np.asarray(state.client_flop_per_s, dtype=float)
        names = dict.fromkeys([*state.links, *(leg.name for legs in every for leg in legs)])
        none = Leg("", np.zeros(state.num_clients), np.zeros(state.num_clients), 0.0, 0.0, 0, False)
        by_name = {
            name: [next((leg for leg in legs if leg.name == name), none) for legs in every] for name in names
        }
        compute_s = {name: np.array([leg.flop for leg in each]) * slowness for name, each in by_name.items()}
        bits = {
            name: np.array([leg.bits for leg in by_name[name]]) / link.data_share  # what is left of the air
            for name, link in state.links.items()
        }
        times = {name: np.array([float(leg.times) for leg in each]) for name, each in by_name.items()}
        server_s = np.array([servers_s(state, [(leg.times, leg) for leg in legs]) for legs in every])
        phases = {
            name: phase_of(link, compute_s[name][0], bits[name][0]) for name, link in state.links.items()
        }
        rounds_of = {rank: rounds.at(rank) for _, rank in pairs}
        return cls(
            cuts=tuple(cut for cut, _ in pairs),
            lora_ranks=np.array([rank for _, rank in pairs]),
            rounds=np.array([rounds_of[rank] for _, rank in pairs]),
            compute_s=compute_s,
            bits=bits,
            times=times,
            server_s=server_s,
            phases=phases,
        )

    @property
    def cut_layers(self) -> Ints:
        """Blocks kept on the client that keeps the fewest, shape (num_choices,)."""
        return np.array([cut if isinstance(cut, int) else min(cut) for cut in self.cuts])

    def __len__(self) -> int:
        return len(self.cut_layers)

    def phase(self, link: str, choice: int) -> Phase:
        """Return the barrier of a link under a choice."""
        return replace(
            self.phases[link], compute_s=self.compute_s[link][choice], bits=self.bits[link][choice]
        )

    def alike(self, link: str, choice: int) -> list[int]:
        """Return the choices whose barrier is that of a choice up to a factor of all its times."""
        bits = self.bits[link]
        largest = bits.max(axis=1, keepdims=True)
        if self.compute_s[link].any() or not largest[choice] > 0.0:
            return [choice]
        with np.errstate(invalid="ignore"):
            shares = bits / largest
        return np.flatnonzero((shares == shares[choice]).all(axis=1)).tolist()

    def round_s(self, deadlines_s: Mapping[str, Floats]) -> Floats:
        """Return the delay of a round of each choice, s, shape (num_choices,).

        Parameters
        ----------
        deadlines_s
            For each link that counts, when its barrier falls, s, shape (num_choices,).
        """
        total = self.server_s.copy()
        for name, compute_s in self.compute_s.items():
            barrier = deadlines_s[name] if name in self.phases else compute_s.max(axis=1)
            total += self.times[name] * barrier
        return total

    def weight(self, link: str, choice: int) -> float:
        """Return how often the barrier of a link is waited for in all."""
        return float(self.rounds[choice] * self.times[link][choice])

    def total_s(self, deadlines_s: Mapping[str, Floats]) -> Floats:
        """Return the delay of all rounds of each choice, s, shape (num_choices,)."""
        return self.rounds * self.round_s(deadlines_s)

    def deadlines_at(self, rates_bit_per_s: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return when each barrier falls at given rates, s, for each choice.

        Parameters
        ----------
        rates_bit_per_s
            For each link that counts, each client's rate, bit/s, shape (num_clients,).
        """
        return {
            link: (self.compute_s[link] + airtime_s(self.bits[link], rates)).max(axis=1)
            for link, rates in rates_bit_per_s.items()
        }

    def nearest(self, cut_layer: int, lora_rank: int) -> int:
        """Return the choice with the cut layer, then the rank, closest to these."""
        return int(np.lexsort((abs(self.lora_ranks - lora_rank), abs(self.cut_layers - cut_layer)))[0])


def _legs(state: CellState, cut: Cut, lora_rank: int) -> tuple[Leg, ...]:
    refuse_measured(state)
    return legs_of(state.phases(Setting(cut, lora_rank)))
