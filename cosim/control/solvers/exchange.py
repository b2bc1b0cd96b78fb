"""Better assignment by moving one subchannel or swapping two, judged by exact power.

At the deadline reached so far every client needs a rate, hence a least power
for any set of subchannels. A change that leaves all those powers strictly below
their limits lets the deadline fall, and it touches two clients only; so all
changes are judged at once, by water-filling the two sets each would leave.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.solvers.power_control import Powers, control_power
from cosim.control.solvers.water_filling import min_power
from cosim.units import Floats, Ints

_LEAST_GAIN = 1e-9  # of the deadline or of a limit; less is rounding
_ROWS = 1 << 15  # sets water-filled in one array operation, to stay within the cache
_Look = Callable[["_Sets"], "_Changes"]


@dataclass(frozen=True, eq=False)
class _Changes:
    """Candidate changes: ``first`` goes to owner ``taker``; ``second``, if not -1, goes the other way.

    ``giver_w`` and ``taker_w`` are what the two clients would then need, W.
    """

    first: Ints
    second: Ints
    giver: Ints
    taker: Ints
    giver_w: Floats
    taker_w: Floats


def improve(phase: Phase, assignment: Ints, max_passes: int) -> tuple[Ints, Powers]:
    """Return assignment that no single move or swap betters, and their powers.

    Parameters
    ----------
    phase, assignment
        The barrier, and the client that owns each subchannel to begin with, shape
        (num_subchannels,).
    max_passes
        Passes after which the search stops even if it could go on.
    """
    powers = control_power(phase, assignment)
    for _ in range(max_passes):
        found = None
        for look in (_moves, _swaps):
            found = _apply_best(phase, assignment, powers.deadline_s, look)
            if found is not None:
                break
        if found is None:
            break
        better = control_power(phase, found)
        if better.deadline_s >= powers.deadline_s * (1.0 - _LEAST_GAIN):
            break
        assignment, powers = found, better
    return assignment, powers


def _apply_best(phase: Phase, assignment: Ints, deadline_s: float, look: _Look) -> Ints | None:
    """Return assignment after the best change and all others that go with it; None if there is none."""
    rates = np.where(phase.bits > 0.0, phase.bits / np.maximum(deadline_s - phase.compute_s, 1e-300), 0.0)
    sets = _Sets(phase, assignment, rates)
    changes = look(sets)
    limits, total = phase.max_tx_power_w, phase.max_total_tx_power_w
    now = sets.needed_w
    shares = np.append(now / limits, -np.inf)
    # Three clients can hold the largest share; a change touches two, so one of the three is left as it is.
    top = np.argsort(-shares, kind="stable")[:3]
    untouched = np.full(len(changes.first), -np.inf)
    for client in top[::-1]:
        apart = (changes.giver != client) & (changes.taker != client)
        untouched = np.where(apart, shares[client], untouched)
    saved = now[changes.giver] + now[changes.taker] - changes.giver_w - changes.taker_w
    share = np.maximum(changes.giver_w / limits[changes.giver], changes.taker_w / limits[changes.taker])
    load = np.maximum(np.maximum(share, untouched), (now.sum() - saved) / total)
    if not len(load) or not load.min() < 1.0 - _LEAST_GAIN:
        return None
    assignment = assignment.copy()
    used: set[int] = set()
    best = int(load.argmin())
    fits = np.flatnonzero((share < 1.0 - _LEAST_GAIN) & (saved > _LEAST_GAIN * now.sum()))
    for at in [best, *fits[np.argsort(-saved[fits], kind="stable")].tolist()]:
        pair = {int(changes.giver[at]), int(changes.taker[at])}
        if pair & used:
            continue
        used |= pair
        assignment[changes.first[at]] = changes.taker[at]
        if changes.second[at] >= 0:
            assignment[changes.second[at]] = changes.giver[at]
    return assignment


class _Sets:
    """The sets of subchannels as they are, and what changed ones would need."""

    def __init__(self, phase: Phase, assignment: Ints, rates_bit_per_s: Floats) -> None:
        self.phase = phase
        self.assignment = assignment
        self.rates = rates_bit_per_s
        self.owned = [np.flatnonzero(assignment == client) for client in range(phase.num_clients)]
        self.needed_w = np.array(
            [float(self.need(client, owned[None])[0]) for client, owned in enumerate(self.owned)]
        )

    def need(self, client: int, sets: Ints) -> Floats:
        """Return the least power of a client over each row of subchannels, W."""
        gains, widths = self.phase.gains[client], self.phase.bandwidths_hz
        rate = np.asarray(self.rates[client])
        parts = [
            min_power(
                np.broadcast_to(rate, len(rows)), gains[rows], widths[rows], self.phase.cap_bit_per_s_per_hz
            )
            for rows in (sets[at : at + _ROWS] for at in range(0, len(sets), _ROWS))
        ]
        return np.concatenate(parts) if parts else np.zeros(0)


def _moves(sets: _Sets) -> _Changes:
    """Every subchannel of a client that has another, to every other client."""
    num_clients = sets.phase.num_clients
    every = np.arange(sets.phase.num_subchannels)
    without = np.full(len(every), np.inf)
    adding = np.empty((num_clients, len(every)))
    for client, owned in enumerate(sets.owned):
        if len(owned) > 1:
            left = np.array([np.delete(owned, at) for at in range(len(owned))])
            without[owned] = sets.need(client, left)
        adding[client] = sets.need(client, np.column_stack([np.tile(owned, (len(every), 1)), every]))
    movable = np.isfinite(without)
    taker, first = np.nonzero((np.arange(num_clients)[:, None] != sets.assignment) & movable)
    return _Changes(
        first, np.full(len(first), -1), sets.assignment[first], taker, without[first], adding[taker, first]
    )


def _swaps(sets: _Sets) -> _Changes:
    """Every pair of subchannels of two clients."""
    num_subchannels = sets.phase.num_subchannels
    trading = np.full((num_subchannels, num_subchannels), np.inf)  # [given, taken]: what the giver then needs
    for client, owned in enumerate(sets.owned):
        others = np.flatnonzero(sets.assignment != client)
        for at, given in enumerate(owned):
            kept = np.tile(np.delete(owned, at), (len(others), 1))
            trading[given, others] = sets.need(client, np.column_stack([kept, others]))
    first, second = np.nonzero(np.triu(sets.assignment[:, None] != sets.assignment))
    return _Changes(
        first,
        second,
        sets.assignment[first],
        sets.assignment[second],
        trading[first, second],
        trading[second, first],
    )
