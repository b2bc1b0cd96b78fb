"""The bound over several rounds: no policy lies below it, and on tiny instances enumeration comes to it."""

from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from analysis.soft_tsfa.long_run import Timeline, band_value, least_unsent
from cosim.control.solvers.sparsity.curves import Stepped
from cosim.control.solvers.sparsity.flat_rate import flat_rate
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats
from tests.uplinks import middle_s, random_stepped, random_uplink

Widths = Callable[[Floats], Floats]
"""The widths of clients in a piece of a window, Hz, by their SNR in one hertz, 0 where one does not send."""


def few_rounds(seed: int, num_rounds: int = 3) -> tuple[Timeline, list[Stepped], float]:
    """Return rounds of two clients over three blocks, too short to send everything."""
    rng = np.random.default_rng([seed, 3])
    uplink = random_uplink(seed, 2)
    length_s = num_rounds * middle_s(uplink, rng.uniform(0.2, 0.6))
    snr_hz = uplink.snr_hz * rng.exponential(size=(3, 2)) + 1e4
    timeline = Timeline(snr_hz, length_s / 3.0, uplink.bandwidth_hz, uplink.start_s, np.zeros(2))
    curves = [random_stepped(seed + number, uplink, 4)[0] for number in range(num_rounds)]
    return timeline, curves, length_s


def pieces(timeline: Timeline, begin_s: float, end_s: float) -> list[tuple[float, Floats]]:
    """Return how long the channel of a window holds, s, and it, 0 for clients that have not computed."""
    blocks = timeline.block_s * np.arange(1, len(timeline.snr_hz))
    edges = np.unique([begin_s, end_s, *(begin_s + timeline.start_s), *blocks])
    edges = edges[(begin_s <= edges) & (edges <= end_s)]
    found = []
    for low, high in pairwise(edges.tolist()):
        middle = 0.5 * (low + high)
        block = min(int(middle / timeline.block_s), len(timeline.snr_hz) - 1)
        found.append((high - low, timeline.snr_hz[block] * (middle > begin_s + timeline.start_s)))
    return found


def unsent(timeline: Timeline, curves: Stepped, begin_s: float, end_s: float, widths: Widths) -> float:
    """Return what a round leaves unsent that shares the band like this."""
    bits = sum(lasts * flat_rate(snr, widths(snr)) for lasts, snr in pieces(timeline, begin_s, end_s))
    return float(curves.remaining(np.asarray(bits)).sum())


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=4)
def test_no_policy_leaves_less_unsent(seed: int) -> None:
    """Whenever its rounds end and however it shares the band, from piece to piece."""
    timeline, curves, length_s = few_rounds(seed)
    bound = least_unsent(timeline, curves, length_s, steps_per_round=4, most_passes=2)
    rng = np.random.default_rng([seed, 4])

    def share(snr: Floats) -> Floats:
        wanted = rng.exponential(size=2) * (snr > 0.0)
        return np.asarray(timeline.bandwidth_hz * wanted / max(float(wanted.sum()), 1e-300))

    least_s = float(timeline.start_s.max())
    for _ in range(40):
        spare = rng.dirichlet(np.ones(3)) * (length_s - 3.0 * least_s)
        ends = np.concatenate([[0.0], np.cumsum(spare + least_s)])
        rounds = zip(curves, pairwise(ends.tolist()), strict=True)
        left = [unsent(timeline, one, begin, end, share) for one, (begin, end) in rounds]
        assert bound.mean <= np.mean(left) + 1e-9
    assert bound.mean <= bound.even + 1e-9


def best_window(timeline: Timeline, curves: Stepped, begin_s: float, end_s: float) -> float:
    """Return the least a general solver finds for a window of two clients: one share of the band a piece."""
    parts = pieces(timeline, begin_s, end_s)
    shared = [at for at, (_, snr) in enumerate(parts) if (snr > 0.0).all()]

    def total(shares: Floats) -> float:
        bits = np.zeros(2)
        of = dict(zip(shared, np.clip(shares, 0.0, 1.0).tolist(), strict=True))
        for at, (lasts, snr) in enumerate(parts):
            part = np.array([of[at], 1.0 - of[at]]) if at in of else (snr > 0.0).astype(float)
            bits += lasts * flat_rate(snr, timeline.bandwidth_hz * part)
        return float(curves.remaining(bits).sum())

    if not shared:
        return total(np.empty(0))
    starts = [np.full(len(shared), one) for one in (0.2, 0.5, 0.8)]
    found = [minimize(total, one, method="Nelder-Mead", bounds=[(0.0, 1.0)] * len(shared)) for one in starts]
    return min(float(one.fun) for one in found)


@pytest.mark.parametrize("seed", [1, *(pytest.param(one, marks=pytest.mark.slow) for one in (0, 2))])
def test_enumeration_of_ends_comes_to_the_bound(seed: int) -> None:
    """Of two rounds on a grid, each window solved by a general solver: rounded outwards, it is the bound."""
    timeline, curves, length_s = few_rounds(seed, 2)
    steps = 8
    grid_s = np.linspace(0.0, length_s, 2 * steps + 1)
    least_s = float(timeline.start_s.max())
    bound = least_unsent(timeline, curves, length_s, steps_per_round=steps, tolerance=1e-5)
    outward, exact = [np.inf], [np.inf]
    for first, second in [*combinations(range(len(grid_s)), 2)]:
        if second - first > 1 or first == 0:
            continue
        for begin, into in ((first, outward), (second, exact)):
            ends = grid_s[second]
            if ends >= least_s and length_s - grid_s[begin] >= least_s:
                windows = ((0.0, ends), (grid_s[begin], length_s))
                into.append(
                    sum(best_window(timeline, one, *at) for one, at in zip(curves, windows, strict=True))
                )
    assert bound.mean <= min(exact) / 2.0 + 1e-6
    assert bound.mean == pytest.approx(min(outward) / 2.0, rel=5e-3, abs=2e-4)


def test_of_one_round_in_one_block_it_is_the_best_sharing() -> None:
    uplink = random_uplink(2)
    uplink = Uplink(
        uplink.snr_hz, uplink.bandwidth_hz, np.full(6, 0.1), uplink.overhead_bits, uplink.dense_bits
    )
    curves, _ = random_stepped(2, uplink)
    deadline_s = middle_s(uplink)
    timeline = Timeline(
        uplink.snr_hz[None], np.inf, uplink.bandwidth_hz, uplink.start_s, uplink.overhead_bits
    )
    bound = least_unsent(timeline, [curves], deadline_s, steps_per_round=4)
    best = float(share_band(uplink, curves, np.array([deadline_s])).unsent[0])
    assert bound.mean == pytest.approx(best, rel=5e-3)
    assert bound.mean <= best * (1.0 + 1e-9)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_what_the_band_is_worth_is_reached_and_never_exceeded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, snr_hz = np.exp(rng.uniform(-20.0, -12.0, 4)), 10.0 ** rng.uniform(5.0, 9.0, 4)
    whole, rates = band_value(values, snr_hz, 5e6)
    assert float(values @ rates) == pytest.approx(float(whole), rel=1e-6)
    for widths in 5e6 * rng.dirichlet(np.full(4, 0.5), 20):
        assert float(values @ flat_rate(snr_hz, widths)) <= float(whole) * (1.0 + 1e-12)


def test_rounds_that_compute_for_longer_than_there_is_are_refused() -> None:
    timeline, curves, _ = few_rounds(0)
    with pytest.raises(ValueError, match="need more time"):
        least_unsent(timeline, curves, 3.0 * float(timeline.start_s.max()))
