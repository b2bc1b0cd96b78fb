"""How good any decision could be: a delay that provably none can beat.

The bound drops one condition only: that a subchannel has a single owner. When
assignment may share each subchannel in any proportion, the problem of a barrier is
convex, and every set of prices, on rate, on each client's power and on the sum,
proves a bound: no assignment earns more from a subchannel than its best buyer
would pay. Prices are sought by a quasi-Newton method on a smoothed form, where
the best buyer is a p-norm over buyers; the bound is then worked out for the
prices found, exactly and in closed form, so it holds however well the search
went. Barriers are bounded apart, and the total is the least over all choices.

Where the rate is capped the bound is that without the cap, or that of a band which is full of it.

It holds for grants fixed over a barrier. Access that lends subchannels of silent
clients, or takes turns in time, can be faster than any such grant.

Source
------
Lagrangian duality for OFDMA: K. Seong, M. Mohseni, J. M. Cioffi, "Optimal
resource allocation for OFDMA downlink systems", IEEE ISIT 2006; here for a
common deadline in the place of a sum of rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosim.control.closed_form import Phase, predict
from cosim.control.decision import Allocation
from cosim.control.proving.lagrangian import Lagrangian, earliest_s
from cosim.control.solvers.choices import Choices
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.state import CellState
from cosim.cores import one_blas_thread
from cosim.units import Floats

_NORMS = (16.0, 128.0, 1024.0, 8192.0)
_MAX_SOLVES = 24
_ROUNDING = 1.0 - 1e-11  # a bound must not lie above the optimum by rounding either


@dataclass(frozen=True, eq=False)
class Prices:
    """Prices that prove bounds for one link, whatever is computed and sent.

    Attributes
    ----------
    rate
        What each client would pay for one bit/s, shape (num_clients,).
    ceiling
        What all clients together can earn at most at these prices.
    """

    rate: Floats
    ceiling: float

    def deadline_s(self, compute_s: Floats, bits: Floats) -> Floats:
        """Return a deadline no allocation can beat, s, shape (...).

        Clients need ``bits / (deadline - compute_s)``, which priced must not
        exceed the ceiling.

        Parameters
        ----------
        compute_s, bits
            As in :class:`~cosim.control.closed_form.Phase`, of shape (..., num_clients).
        """
        return np.asarray(earliest_s(self.rate * bits, compute_s, self.ceiling) * _ROUNDING)


def find_prices(phase: Phase) -> Prices:
    """Return prices under which the bound on the barrier's deadline is as tight as the search gets it.

    The search is most of what a run without training takes; runs of one study, and of one round
    after another over a channel that holds still, ask for the same prices again.
    """
    return _find_prices(_ByNumbers(phase))


class _ByNumbers:
    """A barrier that equals any other of the same numbers."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        arrays = (phase.compute_s, phase.bits, phase.gains, phase.bandwidths_hz, phase.max_tx_power_w)
        numbers = ((one.dtype.str, one.shape, one.tobytes()) for one in map(np.asarray, arrays))
        self._numbers = (*numbers, phase.max_total_tx_power_w)

    def __hash__(self) -> int:
        return hash(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByNumbers) and self._numbers == other._numbers


@lru_cache(maxsize=256)
def _find_prices(barrier: _ByNumbers) -> Prices:
    from scipy.optimize import minimize

    lagrangian = Lagrangian.of(barrier.phase, merges_equals=True)
    logs = lagrangian.start()
    scale = 1.0 / max(lagrangian.deadline(logs, _NORMS[0])[0], 1e-300)

    def loss(at: Floats, norm: float) -> tuple[float, Floats]:
        bound, slope = lagrangian.deadline(at, norm)
        return -scale * bound, -scale * slope

    best, best_bound = logs, -np.inf
    for norm in _NORMS:
        with one_blas_thread():
            found = minimize(
                loss,
                logs,
                args=(norm,),
                jac=True,
                method="L-BFGS-B",
                bounds=[(start - 40.0, start + 40.0) for start in logs],
                options={"maxiter": 60, "ftol": 1e-10, "gtol": 1e-9},
            )
        logs = found.x
        bound = lagrangian.deadline(logs, np.inf)[0]
        if bound > best_bound:
            best, best_bound = logs, bound
    return Prices(lagrangian.split(best)[0], lagrangian.ceiling(best, np.inf)[0])


def lower_bound_s(choices: Choices) -> tuple[float, dict[str, Floats]]:
    """Return a total delay that no decision can beat, s, and the bounds it is made of.

    Returns
    -------
    float
        The bound on the total over all choices, s.
    dict
        For each link that counts, the bound on its barrier under each choice, s,
        shape (num_choices,).
    """
    deadlines = {link: choices.compute_s[link].max(axis=1) for link in choices.phases}
    solved: set[tuple[str, int]] = set()
    for _ in range(_MAX_SOLVES):
        weakest = int(choices.total_s(deadlines).argmin())
        todo = [link for link in choices.phases if (link, weakest) not in solved]
        if not todo:
            break
        for link in todo:
            tighten(choices, link, weakest, deadlines)
            solved.update((link, choice) for choice in choices.alike(link, weakest))
    return float(choices.total_s(deadlines).min()), deadlines


def tighten(choices: Choices, link: str, choice: int, deadlines: Mapping[str, Floats]) -> None:
    """Raise the bounds of all choices, in place, by prices sought for one of them that sends something."""
    phase = choices.phase(link, choice)
    if not phase.bits.any():
        return
    every = [find_prices(phase)]
    if np.isfinite(phase.cap_bit_per_s_per_hz):  # all together carry no more than the band at its cap
        most = phase.cap_bit_per_s_per_hz * float(phase.bandwidths_hz.sum())
        every.append(Prices(np.ones(phase.num_clients), most))
    for prices in every:
        found = prices.deadline_s(choices.compute_s[link], choices.bits[link])
        np.maximum(deadlines[link], found, out=deadlines[link])


def gap_to_bound(
    state: CellState,
    allocation: Allocation,
    choices: Choices | None = None,
    rounds: RoundsTable | None = None,
) -> float:
    """Return how far a decision of any allocator lies above the bound, as a share of the bound.

    Parameters
    ----------
    state, allocation
        The snapshot and what was decided on it.
    choices
        Cut layers and ranks the decision is held against; without them, those it chose.
    rounds
        Rounds to target of each rank; without them all ranks need the same.
    """
    table = rounds or RoundsTable.of({allocation.lora_rank: 1.0})
    if choices is None:
        choices = Choices.of(state, (allocation.cut,), (allocation.lora_rank,), table)
    total_s = table.at(allocation.lora_rank) * predict(state, allocation).round_s
    return total_s / lower_bound_s(choices)[0] - 1.0
