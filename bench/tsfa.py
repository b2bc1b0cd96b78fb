"""TSFA's second stage against a general solver on the same round, and how its cost grows."""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench.ratio import Ratio
from cosim.control.solvers.sparsity.alternating import alternate
from cosim.control.solvers.sparsity.curves import Curves
from cosim.control.solvers.sparsity.deadline import best_round
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.solvers.sparsity.uplink import Uplink
from tests.slsqp import SmoothRound, SteppedRound
from tests.uplinks import middle_s, random_exponential, random_stepped, random_uplink

NUM_CLIENTS, MANY_CLIENTS, SEEDS, AGREEMENT = 6, 100, range(1, 10), 1e-6
# Of GPT-2 small, rank 8 on one matrix or on four matrices a block; none are exponential curves.
AT_LEAST = {96: 15.0, 384: 40.0, 0: 5.0}


def measure() -> list[Ratio]:
    """Return the ratios of medians, both sides of each taken in turn in this process."""
    return [
        *(_against_slsqp(number, at_least) for number, at_least in AT_LEAST.items()),
        _growth(96),
        _turns(),
    ]


def _round(
    seed: int, num_pairs: int, num_clients: int = NUM_CLIENTS
) -> tuple[Uplink, Curves, SmoothRound | SteppedRound, float, float]:
    """Return a round with its oracle, weight and queue, as they are in a balanced long run."""
    uplink = random_uplink(seed, num_clients)
    curves, oracle = (
        random_stepped(seed, uplink, num_pairs) if num_pairs else random_exponential(seed, uplink)
    )
    limit = middle_s(uplink)
    slope = -float(share_band(uplink, curves, np.array([limit])).slope_per_s[0])
    return uplink, curves, oracle, limit / slope, limit


def _against_slsqp(num_pairs: int, at_least: float) -> Ratio:
    ours, rival = [], []
    for seed in SEEDS:
        uplink, curves, oracle, weight, limit = _round(seed, num_pairs)
        seconds, found = _timed(partial(best_round, uplink, curves, weight=weight, queue_s=limit))
        took, (value, _) = _timed(partial(oracle.best, weight, limit, limit))
        ours.append(seconds)
        rival.append(took)
        mine = weight * found.unsent + limit * found.deadline_s
        if mine > value * (1.0 + AGREEMENT):
            raise RuntimeError(f"seed {seed}: {value} by SLSQP, {mine} here")
    curve = f"exact curves of {num_pairs} pairs" if num_pairs else "exponential curves"
    name = f"SLSQP with all gradients / stage 2 ({NUM_CLIENTS} clients, {curve})"
    return Ratio(name, median(rival) / median(ours), at_least, "at least", note=_note(rival, ours))


def _growth(num_pairs: int) -> Ratio:
    few, many = [], []
    for seed in SEEDS:
        for number, times in ((NUM_CLIENTS, few), (MANY_CLIENTS, many)):
            uplink, curves, _, weight, limit = _round(seed, num_pairs, number)
            times.append(_timed(partial(best_round, uplink, curves, weight=weight, queue_s=limit))[0])
    name = f"stage 2, {MANY_CLIENTS} clients / {NUM_CLIENTS} clients ({num_pairs} pairs)"
    return Ratio(name, median(many) / median(few), 30.0, "at most", note=_note(many, few))


def _turns() -> Ratio:
    """Return how far the alternating solver stays behind the joint one, as a ratio of what both minimise."""
    ratios = []
    for seed in range(60):
        uplink, curves, _, weight, limit = _round(seed, 0)
        joint = best_round(uplink, curves, weight=weight, queue_s=limit)
        turns, _ = alternate(uplink, curves, weight=weight, queue_s=limit)
        totals = [weight * one.unsent + limit * one.deadline_s for one in (turns, joint)]
        ratios.append(totals[0] / totals[1])
    note = f"mean {np.mean(ratios):.4f}, at worst {max(ratios):.4f}, over {len(ratios)} rounds"
    return Ratio("value of alternating / joint (6 clients, exponential curves)", median(ratios), note=note)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, s, the shortest of three, and what it gave."""
    seconds = []
    for _ in range(3):
        begin = perf_counter()
        found = call()
        seconds.append(perf_counter() - begin)
    return min(seconds), found


def _note(one: list[float], other: list[float]) -> str:
    return f"{median(one) * 1e3:.4g} ms against {median(other) * 1e3:.4g} ms, medians of {len(one)}"
