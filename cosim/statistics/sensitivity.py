"""Sobol's indices: how much of the variance of a result each factor makes, alone and with others."""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosim.rng import stream
from cosim.statistics.interval import student_t
from cosim.units import Floats, Ints

_MOST_DEGREE = 10
_TERMS_PER_CASE = 0.5
_RESAMPLES = 499
_Basis = tuple[Floats, Ints]
"""Functions of one factor, shape (num_cases, num_functions), and the degree of each."""


@dataclass(frozen=True)
class Indices:
    """First-order and total indices of each factor, with intervals.

    Attributes
    ----------
    first, first_low, first_high
        Share of the variance a factor makes by itself, shape (num_factors,);
        nan where nothing varies, and the ends nan where they cannot be found.
    total, total_low, total_high
        Share it has a hand in, with others or by itself.
    told
        What was computed, in words.
    explained
        Share of the variance the fit predicts of a case it has not seen; nan
        where nothing was fitted. Below about 0.9 the indices are a sketch.
    """

    first: Floats
    first_low: Floats
    first_high: Floats
    total: Floats
    total_low: Floats
    total_high: Floats
    told: str
    explained: float = float("nan")


def jackknifed(
    values: Floats,
    estimate: Callable[[Floats], Floats],
    confidence: float,
    *,
    told: str,
    num_factors: int,
    explained: float = float("nan"),
) -> Indices:
    """Return an estimate of indices, with intervals from leaving out one repetition at a time.

    Parameters
    ----------
    values
        The last axis are repetitions.
    estimate
        Values to indices, shape (2, num_factors).
    confidence
        Of the intervals; they are nan below three repetitions.
    told, explained
        As in :class:`Indices`.
    num_factors
        How many factors there are.

    Source
    ------
    B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 11.
    """
    found = estimate(values)
    count = values.shape[-1]
    low = high = np.full((2, num_factors), np.nan)
    if count > 2 and np.isfinite(found).all():
        kept = [np.delete(np.arange(count), one) for one in range(count)]
        without = np.stack([estimate(values[..., one]) for one in kept], axis=-1)
        if np.isfinite(without).all():
            pseudo = count * found[..., None] - (count - 1) * without
            half = student_t(pseudo, confidence).half_width
            low, high = np.maximum(found - half, 0.0), np.minimum(found + half, 1.0)
    return Indices(found[0], low[0], high[0], found[1], low[1], high[1], told, explained)


def expansion_indices(
    factors: list[Floats | Ints], values: Floats, confidence: float = 0.95
) -> Indices | None:
    """Return Sobol's indices from cases drawn over ranges, by a fitted polynomial expansion.

    Works with any cases that fill the ranges (Latin hypercube, Sobol points): the
    result is expanded in products of Legendre polynomials, one variable a
    factor, by least squares; the indices are sums of squared coefficients. The
    degree is the one that predicts best what it has not seen (leave one case
    out), with at most one term for two cases.

    A factor of numbers enters by its rank among the cases, so the indices are
    those of a uniform draw on whatever scale the study drew from, linear, log
    or dB. A factor of whole numbers (Ints) enters as so many separate levels.

    Parameters
    ----------
    factors
        For each factor what every case has, shape (num_cases,): floats for numbers,
        ints for numbers of levels from zero.
    values
        Finite, shape (num_cases, num_repetitions).
    confidence
        Of the intervals.

    Returns
    -------
    Indices or None
        None where the cases are too few, or their factors move together so
        that no method could tell them apart.

    Source
    ------
    B. Sudret, "Global sensitivity analysis using polynomial chaos expansions",
    Reliability Engineering and System Safety 93, 2008.
    """
    bases = [_contrasts(one) if np.issubdtype(one.dtype, np.integer) else _legendre(one) for one in factors]
    means = values.mean(axis=1)
    if len(means) < 4 or means.var() <= 1e-12 * np.max(means**2):
        return None
    best: tuple[float, Floats, NDArray[np.bool_]] | None = None
    for degree in range(1, _MOST_DEGREE + 1):
        if comb(degree + len(bases), degree) - 1 > 2 * len(means):
            break  # too many even to list
        has, columns = _products(bases, degree)
        design = np.column_stack([np.ones(len(means)), columns])
        if design.shape[1] > _TERMS_PER_CASE * len(means):
            break
        if np.linalg.matrix_rank(design) < design.shape[1]:
            break
        explained = _explained(design, means)
        if best is None or explained > best[0]:
            best = explained, design, has
    if best is None:
        return None
    explained, design, has = best
    solve = np.linalg.pinv(design)
    alone = has.sum(axis=1) == 1

    def estimate(some: Floats) -> Floats:
        parts = (solve @ some.mean(axis=1))[1:] ** 2
        whole = max(float(parts.sum()), float(np.finfo(np.float64).tiny))
        return np.stack([parts[alone] @ has[alone], parts @ has]) / whole

    return jackknifed(
        values,
        estimate,
        confidence,
        told=f"polynomial expansion of {len(has)} terms fitted to {len(means)} cases; "
        "each factor uniform on the scale it was drawn on",
        num_factors=len(factors),
        explained=explained,
    )


def pick_freeze_indices(
    values_a: Floats, values_b: Floats, values_ab: Floats, *, confidence: float = 0.95, seed: int = 0
) -> Indices | None:
    """Return Sobol's indices from a pick-freeze design, by SciPy's estimator.

    The intervals say how sure the indices are given so many points: percentiles
    of indices over resampled points. A first-order index near zero may come out
    just below it.

    Parameters
    ----------
    values_a, values_b
        Results at two independent sets of points, shape (num_points,); a power of two.
    values_ab
        Results where factor ``i`` is as in the second set and the rest as in
        the first, shape (num_factors, num_points).
    confidence, seed
        Of the intervals, and of their resamples.

    Returns
    -------
    Indices or None
        None where nothing varies.

    Source
    ------
    A. Saltelli et al., "Variance based sensitivity analysis of model output",
    Computer Physics Communications 181, 2010, as ``scipy.stats.sobol_indices``.
    """
    both = np.concatenate([values_a, values_b])
    if both.var() <= 1e-24 * np.max(both**2):
        return None
    count = len(values_a)
    found = _picked(values_a, values_b, values_ab)
    drawn = stream(seed, "bootstrap", count).generator().integers(count, size=(_RESAMPLES, count))
    again = [_picked(values_a[rows], values_b[rows], values_ab[:, rows]) for rows in drawn]
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    low, high = np.quantile(np.stack(again), tails, axis=0)
    told = (
        f"pick and freeze over {count} points by Saltelli's estimator (scipy.stats.sobol_indices); "
        "intervals from resampled points"
    )
    return Indices(found[0], low[0], high[0], found[1], low[1], high[1], told)


def _picked(values_a: Floats, values_b: Floats, values_ab: Floats) -> Floats:
    from scipy.stats import sobol_indices

    results: Any = {"f_A": values_a[None, :], "f_B": values_b[None, :], "f_AB": values_ab[:, None, :]}
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may be one point over and over
        found = sobol_indices(func=results, n=len(values_a))
    return np.nan_to_num(np.stack([np.ravel(found.first_order), np.ravel(found.total_order)]))


def _legendre(values: Floats | Ints) -> _Basis:
    """Return orthonormal Legendre polynomials of the rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2.0
    at = 2.0 * middle[which] / len(values) - 1.0
    degrees = np.arange(1, _MOST_DEGREE + 1)
    columns = np.polynomial.legendre.legvander(at, _MOST_DEGREE)[:, 1:]
    return np.asarray(columns * np.sqrt(2 * degrees + 1)), degrees


def _contrasts(levels: Floats | Ints) -> _Basis:
    """Return orthonormal contrasts of equally likely levels; each counts as of degree one."""
    count = int(levels.max()) + 1
    spread = np.linalg.qr(np.column_stack([np.ones(count), np.eye(count)[:, :-1]]))[0]
    columns = spread[np.asarray(levels, dtype=np.int64), 1:] * np.sqrt(count)
    return np.asarray(columns), np.ones(count - 1, dtype=np.int64)


def _products(bases: list[_Basis], degree: int) -> tuple[NDArray[np.bool_], Floats]:
    """Return the terms up to a total degree: which factors are in each, and its column."""
    terms: list[tuple[tuple[int, ...], Floats]] = []

    def extend(factor: int, chosen: tuple[int, ...], left: int, column: Floats) -> None:
        if factor == len(bases):
            if chosen:
                terms.append((chosen, column))
            return
        extend(factor + 1, chosen, left, column)
        columns, degrees = bases[factor]
        for one in np.flatnonzero(degrees <= left):
            extend(factor + 1, (*chosen, factor), left - int(degrees[one]), column * columns[:, one])

    extend(0, (), degree, np.ones(len(bases[0][0])))
    has = np.zeros((len(terms), len(bases)), dtype=np.bool_)
    for row, (chosen, _) in enumerate(terms):
        has[row, list(chosen)] = True
    return has, np.column_stack([column for _, column in terms])


def _explained(design: Floats, means: Floats) -> float:
    """Return the share of variance foretold of cases left out one by one."""
    basis, _ = np.linalg.qr(design)
    leverage = np.sum(basis**2, axis=1)
    left = (means - basis @ (basis.T @ means)) / np.maximum(1.0 - leverage, 1e-12)
    return float(1.0 - np.mean(left**2) / means.var())
