"""The best assignment of a barrier of few subchannels, proven by pricing every set of them.

To be done by a deadline each client needs some set of subchannels, and has an
exact least power for each; with up to 20 subchannels all sets can be listed.
Whether disjoint sets exist whose powers keep the limits is a set-packing
question. Dual prices on subchannels bound it from below: clients that each take the
set cheapest in power and dual price can only pay less than any packing. Dual prices are
sought by column generation; then sets too dear to be in any packing within the
limits are struck, and the few that remain are joined client by client. A better
deadline found starts this again; when none is found, none exists.

Fractions of a set are never allowed, so the bound is much closer than that of
shared subchannels. The linear programs only propose duals: what is proven is
proven by the listed powers.

Source
------
Set packing by column generation and reduced-cost enumeration: R. Baldacci,
N. Christofides, A. Mingozzi, "An exact algorithm for the vehicle routing problem
based on the set partitioning formulation", Mathematical Programming 115, 2008.
"""

from typing import Literal

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.proving.effort import Effort
from cosim.control.proving.proof import Proof
from cosim.control.solvers.power_control import control_power
from cosim.errors import AllocationError
from cosim.units import Floats, Ints

MAX_SUBCHANNELS = 20
_MAX_COLUMNS = 200
_MAX_JOINED = 4_000_000  # packings of some clients held at once
_MAX_PAIRS = 4_000_000_000  # of which each is compared with every set of the next client
_SLACK = 1e-9  # sets this much too dear are still looked at, against rounding


def prove_by_subsets(
    phase: Phase, assignment: Ints, bound_s: float, cutoff_s: float, gap: float, effort: Effort
) -> Proof:
    """Return the best assignment of a barrier, or the proof that none beats a cutoff.

    Parameters
    ----------
    phase, assignment
        The barrier, of at most 20 subchannels, and a decision to begin with.
    bound_s
        A bound known already, s.
    cutoff_s, gap, effort
        As for :func:`~cosim.control.proving.prove.prove`.
    """
    powers = control_power(phase, assignment)
    num_steps = 0
    while True:
        target = min(cutoff_s, powers.deadline_s) * (1.0 - gap)
        if bound_s >= target:
            return Proof(assignment, powers, bound_s, num_steps)
        packing = _Packing(phase, target, effort)
        found = packing.solve()
        num_steps += packing.num_steps
        if packing.is_proven:
            return Proof(assignment, powers, target, num_steps)
        if found is None:
            stopped_by = packing.stopped_by or "too_many_sets"
            return Proof(assignment, powers, bound_s, num_steps, stopped_by)
        assignment, powers = found, control_power(phase, found)


class _Packing:
    """The question whether all clients can be done by a deadline; sets are the bits of a number."""

    def __init__(self, phase: Phase, deadline_s: float, effort: Effort) -> None:
        self.phase = phase
        self.effort = effort
        self.num_steps = 0
        self.is_proven = False
        self.stopped_by: Literal["", "work_limit"] = ""
        left = deadline_s - phase.compute_s
        rates = phase.bits / np.maximum(left, 1e-300)
        limits = phase.max_tx_power_w * (1.0 + _SLACK)
        self.needed_w = []
        effort.spend(1 << phase.num_subchannels, 10 * phase.num_clients)
        for client in range(phase.num_clients):
            needed = set_powers(phase.gains[client], phase.bandwidths_hz, float(rates[client]))
            needed[0] = np.inf
            needed[needed > limits[client]] = np.inf
            self.needed_w.append(needed if left[client] > 0.0 else np.full_like(needed, np.inf))
        self.total_w = min(phase.max_total_tx_power_w, float(phase.max_tx_power_w.sum())) * (1.0 + _SLACK)

    def solve(self) -> Ints | None:
        """Return assignment with which all are done, or None; ``is_proven`` if there are none."""
        if not all(np.isfinite(needed).any() for needed in self.needed_w):
            self.is_proven = True
            return None
        columns: list[dict[int, float]] = [
            {int(needed.argmin()): float(needed.min())} for needed in self.needed_w
        ]
        best, duals = -np.inf, np.zeros(self.phase.num_subchannels)
        for _ in range(_MAX_COLUMNS):
            if self._is_out():
                return None
            self.num_steps += 1
            master, proposed = self._master(columns)
            _, cheapest, reached = self._price(proposed)
            if reached > best:
                best, duals = reached, proposed
            if best > self.total_w:
                self.is_proven = True
                return None
            is_new = False
            for known, mark, needed in zip(columns, cheapest, self.needed_w, strict=True):
                if mark not in known:
                    known[mark] = float(needed[mark])
                    is_new = True
            if not is_new or master - best <= 1e-7 * self.total_w:
                break
        return self._join(duals, best)

    def _is_out(self) -> bool:
        if self.effort.is_spent:
            self.stopped_by = "work_limit"
        return bool(self.stopped_by)

    def _master(self, columns: list[dict[int, float]]) -> tuple[float, Floats]:
        """Return optimum and duals of the program over the sets known; to go without one is dear."""
        from scipy.optimize import linprog

        num_subchannels = self.phase.num_subchannels
        marks = np.array([mark for known in columns for mark in known])
        clients = np.repeat(np.arange(len(columns)), [len(known) for known in columns])
        costs = np.array([cost for known in columns for cost in known.values()]) / self.total_w
        short = np.arange(len(columns))
        holds = (marks >> np.arange(num_subchannels)[:, None]) & 1
        packing = np.hstack([holds, np.zeros((num_subchannels, len(columns)))])
        one_each = (np.concatenate([clients, short]) == short[:, None]).astype(float)
        answer = linprog(
            np.concatenate([costs, np.full(len(columns), 4.0)]),
            A_ub=packing,
            b_ub=np.ones(num_subchannels),
            A_eq=one_each,
            b_eq=np.ones(len(columns)),
            method="highs",
        )
        if answer.status != 0:
            raise AllocationError(
                f"{self.phase.link}: the solver HiGHS stopped without an answer "
                f"({answer.message.rstrip('.')}); use 'refined', whose gap to the bound says what is lost."
            )
        self.effort.spend(packing.size, 10)
        duals = np.maximum(-answer.ineqlin.marginals, 0.0) * self.total_w
        return float(answer.fun or 0.0) * self.total_w, duals

    def _price(self, duals: Floats) -> tuple[Floats, list[int], float]:
        """Return what each client pays at least, for which set, and the bound on all powers together, W."""
        dual = set_sums(duals)
        self.effort.spend(len(dual), len(self.needed_w))
        cheapest = [int((needed + dual).argmin()) for needed in self.needed_w]
        paid = np.array(
            [needed[mark] + dual[mark] for needed, mark in zip(self.needed_w, cheapest, strict=True)]
        )
        return paid, cheapest, float(paid.sum() - duals.sum())

    def _join(self, duals: Floats, bound_w: float) -> Ints | None:
        """Try all packings of the sets that could be in one; the answer is final unless they are too many."""
        dual = set_sums(duals)
        paid, _, _ = self._price(duals)
        dearer = [needed + dual - least for needed, least in zip(self.needed_w, paid, strict=True)]
        everything = self.total_w - bound_w + _SLACK * self.total_w
        # A packing of sets that are hardly too dear, if there is one, is found without listing all.
        for share in (1e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4, 0.7, 1.0):
            packing, is_complete = self._join_within(dearer, share * everything)
            if packing is not None:
                return packing
            if not is_complete:
                return None
        self.is_proven = True
        return None

    def _join_within(self, dearer: list[Floats], spare: float) -> tuple[Ints | None, bool]:
        """Return assignment from sets dearer by ``spare`` in all at most, and whether all were tried."""
        keep = [np.flatnonzero(one <= spare) for one in dearer]
        taken, used, excess = np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(1)
        order = np.argsort([len(sets) for sets in keep], kind="stable").tolist()
        for client in order:
            sets = keep[client]
            if len(used) * len(sets) > _MAX_PAIRS:
                return None, False
            rows = max(_MAX_JOINED // max(len(sets), 1), 1)
            parts = []
            for at in range(0, len(used), rows):
                if self._is_out():
                    return None, False
                self.effort.spend(min(rows, len(used) - at) * len(sets), 3)
                apart = (used[at : at + rows, None] & sets) == 0
                fits = apart & (excess[at : at + rows, None] + dearer[client][sets] <= spare)
                first, second = np.nonzero(fits)
                parts.append((first + at, second))
            first = np.concatenate([part[0] for part in parts])
            second = np.concatenate([part[1] for part in parts])
            if not len(first):
                return None, True
            if len(first) > _MAX_JOINED:
                return None, False
            taken = np.column_stack([taken[first], sets[second]])
            used = used[first] | sets[second]
            excess = excess[first] + dearer[client][sets[second]]
        powers = sum(self.needed_w[client][taken[:, at]] for at, client in enumerate(order))
        best = int(np.argmin(powers))
        if powers[best] > self.total_w:
            return None, True
        assignment = np.full(self.phase.num_subchannels, -1)
        for at, client in enumerate(order):
            assignment[(taken[best, at] >> np.arange(len(assignment))) & 1 == 1] = client
        spare_ones = assignment < 0
        assignment[spare_ones] = self.phase.gains[:, spare_ones].argmax(axis=0)
        return assignment, True


def set_sums(values: Floats) -> Floats:
    """Return the sum over each set of subchannels, shape (2 ** num_subchannels,).

    Examples
    --------
    >>> set_sums(np.array([1.0, 10.0]))
    array([ 0.,  1., 10., 11.])
    """
    sums = np.zeros(1 << len(values))
    for at, value in enumerate(values.tolist()):
        sums[1 << at : 2 << at] = sums[: 1 << at] + value
    return sums


def set_powers(gains: Floats, bandwidths_hz: Floats, rate_bit_per_s: float) -> Floats:
    """Return the least power with which each set carries a rate, W, shape (2 ** num_subchannels,).

    A set is filled as it is without its worst subchannel, unless the water rises
    above that one; so the sets are worked out in the order of their worst.

    Parameters
    ----------
    gains, bandwidths_hz
        Gain over noise PSD, Hz/W, and width, Hz, shape (num_subchannels,).
    rate_bit_per_s
        The rate, bit/s.

    Examples
    --------
    >>> set_powers(np.array([1.0, 1.0]), np.array([1.0, 1.0]), 2.0)
    array([inf,  3.,  3.,  2.])
    """
    order = np.argsort(-gains, kind="stable")
    count = len(gains)
    if rate_bit_per_s <= 0.0:
        return np.zeros(1 << count)
    best = float(gains.max()) or 1.0
    needed = np.full(1 << count, np.inf)
    widths, logs, inverses = np.zeros(1 << count), np.zeros(1 << count), np.zeros(1 << count)
    for at, subchannel in enumerate(order.tolist()):
        relative = float(gains[subchannel]) / best
        low, high = slice(0, 1 << at), slice(1 << at, 2 << at)
        if relative <= 0.0:
            needed[high] = needed[low]
            widths[high], logs[high], inverses[high] = widths[low], logs[low], inverses[low]
            continue
        width = float(bandwidths_hz[subchannel])
        widths[high] = widths[low] + width
        logs[high] = logs[low] + width * np.log2(relative)
        inverses[high] = inverses[low] + width / relative
        level = (rate_bit_per_s - logs[high]) / widths[high]
        with np.errstate(over="ignore"):
            power = (widths[high] * np.exp2(level) - inverses[high]) / best
        needed[high] = np.where(level + np.log2(relative) > 0.0, power, needed[low])
    by_rank = np.argsort(order)  # the place of each subchannel among the sorted ones
    return needed[set_sums((1 << by_rank).astype(float)).astype(np.int64)]
