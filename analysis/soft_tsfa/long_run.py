"""What any policy leaves unsent over several rounds at least, though it knew the whole channel beforehand.

A policy says when each round ends and, at every instant, how the band is shared; rounds follow each other
and the channel goes on in its own time, so a long round meets another channel than a short one. Let a bit
of client k be worth ``v_k`` in a round, in energy, whatever ``v``. A round that lies within a window then
leaves at least

    sum_k min_x (phi_k(x) + v_k (x + overhead_k)) - integral over the window of max_w sum_k v_k R_k(w_k)

unsent: the Lagrangian of what gets through. The integral is a sum over time, so the bound is a number for
the window's begin less one for its end, a *cut*; and the least sum over all sequences of windows is a
shortest path over a grid of instants. Windows are rounded outwards, to begin on the grid no later and end
no earlier, so the shortest path is below every policy, online or not, for any cuts. Those are added where
the path lies (Benders) until there is little to be won.

Source
------
The bound is ours. Cuts are those of J. F. Benders, Numerische Mathematik 4, 1962; the duality is that of
M. J. Neely, "Stochastic network optimization", Morgan & Claypool, 2010, ch. 4, with which TSFA is shown to
come near to the best in the long run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cosim.control.solvers.sparsity.curves import Stepped
from cosim.units import Floats, Ints

_LN2 = float(np.log(2.0))
_PRICE_STEPS = 12
_NEAR = 1e-12
_SMOOTH = (1e-2, 1e-3, 1e-4)
"""Energies over which kinks of a curve are rounded while values of bits are searched, of all there is."""
_MOST_FIRST = 12  # instants at which first windows begin
_FIRST_LENGTHS = (0.7, 1.4)  # of the mean round


@dataclass(frozen=True, eq=False)
class Timeline:
    """The uplink of all rounds, in blocks of time through which the channel holds.

    Attributes
    ----------
    snr_hz
        SNR each client would have in one hertz, Hz, positive, shape (num_blocks, num_clients); the last
        block goes on for ever.
    block_s
        Length of a block, s; infinite where the channel never changes.
    bandwidth_hz
        Width of the whole band, Hz.
    start_s
        How long each client computes in a round before it can send, s, shape (num_clients,).
    overhead_bits
        What each sends in any case, shape (num_clients,).
    """

    snr_hz: Floats
    block_s: float
    bandwidth_hz: float
    start_s: Floats
    overhead_bits: Floats


@dataclass(frozen=True, eq=False)
class LeastUnsent:
    """A lower bound on the energy left unsent.

    Attributes
    ----------
    mean
        Of the mean over rounds; no policy leaves less.
    even
        Of the mean over rounds that are all equally long; what is between both is all that choosing when to
        end can bring, the rest is how the band is shared within a round.
    ends_s
        When rounds end on the path it comes from, s, shape (num_rounds,); it need not be possible.
    slack
        By how much the bound could still rise on this grid, at most; the rest of its distance from a
        policy is the grid's, the relaxation's or the policy's.
    """

    mean: float
    even: float
    ends_s: Floats
    slack: float


def least_unsent(
    timeline: Timeline,
    curves: Sequence[Stepped],
    length_s: float,
    *,
    steps_per_round: int = 40,
    tolerance: float = 2e-3,
    most_passes: int = 30,
) -> LeastUnsent:
    """Return a lower bound on what rounds within ``length_s`` leave unsent in the mean.

    Parameters
    ----------
    timeline
        The air, and what each client does beside sending what it decides on.
    curves
        What each round leaves unsent by what is sent in it; the same object where rounds have the same.
    length_s
        By when the last round is over, s.
    steps_per_round
        Steps of the grid in a mean round: rounds are granted one step more than they have.
    tolerance, most_passes
        Relative, and how often cuts are added; both decide how near the bound comes, not whether it holds.

    Raises
    ------
    ValueError
        If the rounds' computing alone takes longer.
    """
    num_rounds = len(curves)
    grid_s = np.linspace(0.0, length_s, num_rounds * steps_per_round + 1)
    if num_rounds * float(timeline.start_s.max()) >= length_s:
        raise ValueError(f"{num_rounds} rounds that compute for {timeline.start_s.max():g} s need more time")
    distinct = list({id(one): one for one in curves}.values())
    which = [next(at for at, one in enumerate(distinct) if one is curve) for curve in curves]
    costs = _Costs(timeline, distinct, grid_s)
    every = max((len(grid_s) - 1) // _MOST_FIRST, 1)
    for begin in range(0, len(grid_s) - 1, every):
        for length in _FIRST_LENGTHS:
            end = min(begin + int(length * steps_per_round), len(grid_s) - 1)
            costs.add(begin % len(distinct), begin, end)
    bound, best = -np.inf, np.inf
    for _ in range(most_passes):
        total, windows = costs.shortest(which)
        bound = max(bound, total)
        exact = sum(costs.add(curve, begin, end) for curve, (begin, end) in zip(which, windows, strict=True))
        best = min(best, exact)
        if best - bound <= tolerance * best:
            break
    even = sum(
        costs.add(curve, number * steps_per_round, (number + 1) * steps_per_round)
        for number, curve in enumerate(which)
    )
    ends_s = grid_s[[end for _, end in windows]]
    slack = max(best - bound, 0.0)
    return LeastUnsent(bound / num_rounds, even / num_rounds, ends_s, slack / num_rounds)


class _Costs:
    """What is known of the least unsent energy of each curve in each window of the grid."""

    def __init__(self, timeline: Timeline, curves: Sequence[Stepped], grid_s: Floats) -> None:
        self._timeline, self._curves, self._grid_s = timeline, curves, grid_s
        self._order = np.argsort(timeline.start_s, kind="stable")
        num_clients = len(timeline.start_s)
        # Clients that send once so many of them have computed, shape (num_clients, num_clients).
        self._active = np.zeros((num_clients, num_clients))
        for phase in range(num_clients):
            self._active[phase, self._order[: phase + 1]] = 1.0
        self._from_s = timeline.start_s[self._order]
        possible = grid_s[None, 1:] - grid_s[:-1, None] >= self._from_s[-1]
        self._least = [np.where(possible, 0.0, np.inf) for _ in curves]  # row: begin; column: end - 1

    def shortest(self, which: Sequence[int]) -> tuple[float, list[tuple[int, int]]]:
        """Return the least sum over sequences of windows, and the windows, as numbers of the grid.

        A round that ends within a step begins the next one at the step's begin.
        """
        totals = np.where(np.arange(len(self._grid_s) - 1) == 0, 0.0, np.inf)
        came: list[Ints] = []
        for curve in which:
            through = totals[:, None] + self._least[curve]
            came.append(through.argmin(axis=0))
            totals = through[came[-1], np.arange(len(totals))]
        last = int(totals.argmin())
        total, windows = float(totals[last]), []
        for begins in reversed(came):
            begin = int(begins[last])
            windows.append((begin, last + 1))
            last = begin
        return total, windows[::-1]

    def add(self, curve: int, begin: int, end: int) -> float:
        """Take in the cut of a window for all windows, and return what it says of its own."""
        begin_s, end_s = float(self._grid_s[begin]), float(self._grid_s[end])
        if end_s - begin_s < self._from_s[-1]:
            return float("inf")
        values = self._search(curve, begin_s, end_s)
        best_rates, _ = band_value(
            values * self._active[:, None, :], self._timeline.snr_hz, self._timeline.bandwidth_hz
        )
        begins, ends = self._grid_s[:-1], self._grid_s[1:]
        # Until all send, what gets through depends on the begin; from then on it is a sum over time.
        early = np.zeros(len(begins))
        for phase, (low_s, high_s) in enumerate(pairwise(self._from_s)):
            early += self._until(best_rates[phase], begins + high_s)
            early -= self._until(best_rates[phase], begins + low_s)
        before = self._until(best_rates[-1], begins + self._from_s[-1]) - early
        after = self._until(best_rates[-1], ends)
        for least, one in zip(self._least, self._curves, strict=True):
            np.maximum(least, (least_rest(one, values, self._timeline) + before)[:, None] - after, out=least)
        return float(self._least[curve][begin, end - 1])

    def _until(self, rates: Floats, instants_s: Floats) -> Floats:
        """Return the integral of rates of blocks up to some instants."""
        block_s = self._timeline.block_s
        if np.isinf(block_s):
            return np.asarray(rates[0] * instants_s)
        block = np.minimum((instants_s / block_s).astype(np.int64), len(rates) - 1)
        before = np.concatenate([[0.0], np.cumsum(rates)]) * block_s
        return np.asarray(before[block] + rates[block] * (instants_s - block * block_s))

    def _search(self, curve: int, begin_s: float, end_s: float) -> Floats:
        """Return values of bits with which the cut of a window is about as high as can be."""
        from scipy.optimize import minimize  # loaded where a bound is wanted

        durations_s, blocks, phases = self._pieces(begin_s, end_s)
        snr_hz, active = self._timeline.snr_hz[blocks], self._active[phases]
        one, overhead = self._curves[curve], self._timeline.overhead_bits

        def negative(logs: Floats, smooth: float) -> tuple[float, Floats]:
            values = np.exp(logs)
            rest, bits = _smooth_rest(one, values, smooth)
            worth, rates = band_value(values * active, snr_hz, self._timeline.bandwidth_hz)
            total = float(rest.sum() + values @ overhead - durations_s @ worth)
            slope = values * (bits + overhead - durations_s @ rates)
            return -total, -slope

        # Lower values would leave everything sent, where the total is flat.
        known = np.log(np.maximum(one.kinks[1][:, 0], 1e-30) / one.useful_bits.max())
        for smooth in _SMOOTH:
            known = minimize(
                negative,
                known,
                args=(smooth,),
                jac=True,
                method="L-BFGS-B",
                bounds=[(-80.0, 20.0)] * len(known),
            ).x
        return np.asarray(np.exp(known))

    def _pieces(self, begin_s: float, end_s: float) -> tuple[Floats, Ints, Ints]:
        """Return durations of a window's pieces, s, the block each lies in, and how many have computed."""
        block_s, last = self._timeline.block_s, len(self._timeline.snr_hz) - 1
        cuts: list[Floats] = [begin_s + self._from_s, np.array([end_s])]
        if np.isfinite(block_s):
            cuts.append(
                block_s * np.arange(int(begin_s / block_s) + 1.0, min(int(end_s / block_s), last) + 1.0)
            )
        edges = np.unique(np.concatenate(cuts))
        edges = edges[(edges >= begin_s + self._from_s[0]) & (edges <= end_s)]
        middles = 0.5 * (edges[1:] + edges[:-1])
        blocks = np.minimum((middles / block_s).astype(np.int64), last)
        phases = np.searchsorted(begin_s + self._from_s, middles) - 1
        return np.diff(edges), blocks, phases


def least_rest(curves: Stepped, values: Floats, timeline: Timeline) -> float:
    """Return the least that unsent energy and sent bits cost together, overheads included."""
    ends, rests = curves.kinks
    return float((rests + values[:, None] * ends).min(axis=1).sum() + values @ timeline.overhead_bits)


def _smooth_rest(curves: Stepped, values: Floats, smooth: float) -> tuple[Floats, Floats]:
    """Return each client's least cost with kinks rounded, and the bits it sends at it."""
    ends, rests = curves.kinks
    width = smooth * max(float(rests[:, 0].sum()), 1e-300)
    costs = (rests + values[:, None] * ends) / width
    least = costs.min(axis=1, keepdims=True)
    parts = np.exp(least - costs)
    whole = parts.sum(axis=1)
    return width * (least[:, 0] - np.log(whole)), (parts * ends).sum(axis=1) / whole


def band_value(values: Floats, snr_hz: Floats, bandwidth_hz: float) -> tuple[Floats, Floats]:
    """Return what the band carries in a second at most, each bit worth what it is, and the rates, bit/s.

    The first, shape (...), is the dual of the sharing of the band at a price per hertz, so it is not below
    the truth whatever the price; the second, shape (..., num_clients), is what clients send at it.

    Parameters
    ----------
    values
        Worth of a bit, not negative, not all zero, shape (..., num_clients).
    snr_hz
        As in :class:`Timeline`, shape (..., num_clients).
    bandwidth_hz
        Width of the band, Hz.
    """
    from scipy.special import lambertw

    values, snr_hz = np.broadcast_arrays(values, snr_hz)
    with np.errstate(divide="ignore"):
        low, high = (
            np.log((values * _bend(np.log1p(snr_hz / width))).max(axis=-1, keepdims=True))
            for width in (2.0 * bandwidth_hz, 0.5 * bandwidth_hz / values.shape[-1])
        )
    logs = 0.5 * (low + high)
    for step in range(_PRICE_STEPS + 1):
        with np.errstate(divide="ignore", over="ignore"):
            worth = np.exp(logs) / values  # of a hertz, in nats of the client
        # The efficiency u with u - 1 + exp(-u) equal to that worth, by v = exp(-u).
        part = -lambertw(-np.exp(-1.0 - worth)).real
        part = np.clip(part, 0.0, 1.0 - 1e-15)
        widths = snr_hz * part / (1.0 - part)
        taken = widths.sum(axis=-1, keepdims=True)
        excess = np.log(taken / bandwidth_hz)
        if step == _PRICE_STEPS or (np.abs(excess) <= _NEAR).all():
            break
        low, high = np.where(excess > 0.0, logs, low), np.where(excess > 0.0, high, logs)
        with np.errstate(invalid="ignore"):
            falls = np.where(part > 0.0, widths * worth / (1.0 - part) ** 2, 0.0)
        tried = logs + excess * taken / falls.sum(axis=-1, keepdims=True)
        logs = np.where((low < tried) & (tried < high), tried, 0.5 * (low + high))
    whole = np.exp(logs[..., 0]) * bandwidth_hz + (values * snr_hz * part).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(part > 0.0, -widths * np.log(part), 0.0)
    return whole / _LN2, rates / _LN2


def _bend(efficiency: Floats) -> Floats:
    """Return ``u - 1 + exp(-u)``."""
    return np.where(efficiency > 1e-4, efficiency + np.expm1(-efficiency), 0.5 * efficiency**2)
