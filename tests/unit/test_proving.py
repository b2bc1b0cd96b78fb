"""Proofs of the best assignment: against every possible one, and what they say when stopped."""

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import scipy.optimize
from threadpoolctl import threadpool_info

from cosim.control.closed_form import Phase
from cosim.control.proving.bound import find_prices
from cosim.control.proving.branch_and_bound import prove_by_prices
from cosim.control.proving.effort import Effort
from cosim.control.proving.equal_subchannels import are_equal, prove_by_counting
from cosim.control.proving.lagrangian import earliest_s
from cosim.control.proving.prove import prove
from cosim.control.proving.subsets import prove_by_subsets, set_powers
from cosim.control.solvers.greedy import greedy_assignment
from cosim.control.solvers.power_control import control_power
from cosim.control.solvers.water_filling import min_power
from cosim.cores import one_blas_thread
from cosim.errors import AllocationError
from tests.cells import random_phase

GAP = 1e-4


def _phase(seed: int, *, is_alike: bool = False) -> Phase:
    phase = random_phase(
        seed, 3, 6, decades=(0.5, 1.0, 2.0, 3.0)[seed % 4], is_flat=is_alike or seed % 5 == 0
    )
    return replace(phase, bandwidths_hz=np.full(6, 50e3)) if is_alike else phase


def _optimum_s(phase: Phase) -> float:
    deals = product(range(phase.num_clients), repeat=phase.num_subchannels)
    every = [np.array(deal) for deal in deals if len(set(deal)) == phase.num_clients]
    return min(control_power(phase, deal).deadline_s for deal in every)


def _by_subsets(phase, assignment, gap):
    return prove_by_subsets(phase, assignment, 0.0, np.inf, gap, Effort())


def _by_prices(phase, assignment, gap):
    return prove_by_prices(phase, assignment, 0.0, np.inf, gap, 10_000, Effort())


@pytest.mark.parametrize("way", [_by_subsets, _by_prices])
@pytest.mark.parametrize("seed", range(8))
def test_a_closed_proof_holds_against_every_possible_assignment(way, seed):
    phase = _phase(seed)
    optimum = _optimum_s(phase)
    proof = way(phase, greedy_assignment(phase), GAP)
    assert proof.is_closed
    assert optimum * (1.0 - 1e-9) <= proof.powers.deadline_s <= optimum * (1.0 + 1.01 * GAP)
    assert proof.bound_s <= optimum * (1.0 + 1e-9)
    assert proof.powers.deadline_s == control_power(phase, proof.assignment).deadline_s


@pytest.mark.parametrize("seed", range(8))
def test_subchannels_that_are_alike_need_no_search(seed):
    phase = _phase(seed, is_alike=True)
    assert are_equal(phase)
    proof = prove_by_counting(phase, greedy_assignment(phase))
    optimum = _optimum_s(phase)
    assert proof.powers.deadline_s == pytest.approx(optimum, rel=1e-9)
    assert optimum * (1.0 - 1e-9) <= proof.bound_s <= optimum


@pytest.mark.parametrize("seed", range(4))
def test_the_power_of_every_set_is_that_of_water_filling_it(seed):
    phase = random_phase(seed, 1, 7)
    gains, widths, rate = phase.gains[0].copy(), phase.bandwidths_hz, 8e5
    gains[seed] = 0.0
    powers = set_powers(gains, widths, rate)
    assert powers[0] == np.inf
    for mark in range(1, 1 << 7):
        owned = [at for at in range(7) if mark >> at & 1]
        assert powers[mark] == pytest.approx(
            float(min_power(np.array(rate), gains[owned], widths[owned])), rel=1e-10
        )


@pytest.mark.parametrize("seed", range(4))
def test_nothing_below_a_cutoff_is_proven_where_there_is_nothing(seed):
    phase = _phase(seed)
    optimum = _optimum_s(phase)
    proof = prove(phase, greedy_assignment(phase), cutoff_s=0.95 * optimum, gap=GAP)
    assert proof.is_closed
    assert proof.bound_s == pytest.approx(0.95 * optimum, rel=1.01 * GAP)


def test_five_clients_on_twenty_subchannels_are_proven():
    phase = random_phase(7, 5, 20)
    proof = prove(phase, greedy_assignment(phase), gap=1e-3)
    assert proof.is_closed
    prices = find_prices(phase)
    assert float(prices.deadline_s(phase.compute_s, phase.bits)) <= proof.powers.deadline_s
    assert proof.powers.deadline_s <= control_power(phase, greedy_assignment(phase)).deadline_s


def test_a_solver_that_gives_no_answer_is_told_and_nothing_takes_its_place(monkeypatch):
    """HiGHS itself, given no time."""
    out_of_time = partial(scipy.optimize.linprog, options={"time_limit": 0.0})
    monkeypatch.setattr(scipy.optimize, "linprog", out_of_time)
    phase = random_phase(7, 4, 12)
    with pytest.raises(
        AllocationError, match=r"the solver HiGHS stopped without an answer \(.*use 'refined'"
    ):
        _by_subsets(phase, greedy_assignment(phase), 1e-3)


@pytest.mark.parametrize(("num_subchannels", "limits"), [(12, {}), (24, {}), (24, {"max_nodes": 3})])
def test_a_search_that_is_stopped_says_by_what_and_keeps_its_bound(num_subchannels, limits):
    phase = random_phase(4, 4, num_subchannels, decades=1.0)
    assignment = greedy_assignment(phase)
    proof = prove(
        phase, assignment, gap=1e-7, effort=Effort(limit=100 if num_subchannels == 12 else 5000), **limits
    )
    assert proof.stopped_by == ("node_limit" if limits else "work_limit")
    assert not proof.is_closed
    assert proof.bound_s <= proof.powers.deadline_s <= control_power(phase, assignment).deadline_s


@pytest.mark.parametrize("seed", range(20))
def test_a_deadline_in_numbers_is_that_in_arrays(seed):
    phase = random_phase(seed, 1 + seed)
    priced, ceiling = phase.bits * (np.arange(1 + seed) != 1), 10.0 ** (seed % 7)
    alone, *_ = earliest_s(priced[None], phase.compute_s[None], ceiling)
    at = float(earliest_s(priced, phase.compute_s, ceiling))
    assert at == pytest.approx(alone, rel=1e-13)
    assert (priced / (at - phase.compute_s)).sum() == pytest.approx(ceiling, rel=1e-9)


def test_a_search_has_one_thread_of_the_matrix_library_and_gives_the_others_back():
    def threads():
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = threads()
    with one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before
