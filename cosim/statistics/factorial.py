"""Effects in a study that crosses every level of every factor: means, interactions, shares of variance."""

from itertools import product
from math import prod

import numpy as np

from cosim.statistics.interval import Interval, Method, interval
from cosim.statistics.sensitivity import Indices, jackknifed
from cosim.units import Floats, Ints


def crossing(levels: list[Ints]) -> Ints | None:
    """Return which case is in each cell of a full crossing, or None where there is no such crossing.

    Parameters
    ----------
    levels
        For each factor the number of the level, from zero, each case has, shape (num_cases,).

    Returns
    -------
    ndarray or None
        Numbers of cases, shape (levels of the first factor, ..., of the last).

    Examples
    --------
    >>> crossing([np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])]).tolist()
    [[0, 1], [3, 2]]
    >>> crossing([np.array([0, 1]), np.array([0, 1])]) is None
    True
    """
    if not levels or not len(levels[0]):
        return None
    shape = tuple(int(one.max()) + 1 for one in levels)
    if prod(shape) != len(levels[0]):
        return None
    cells = np.full(shape, -1, dtype=np.int64)
    cells[tuple(levels)] = np.arange(len(levels[0]))
    return cells if (cells >= 0).all() else None


def marginal(
    values: Floats,
    factors: tuple[int, ...],
    *,
    method: Method = "t",
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean at every level of some factors, over all levels of the others, with its interval.

    The interval is over repetitions: each averages over the other factors first.

    Parameters
    ----------
    values
        Finite, shape (levels of the first factor, ..., of the last, num_repetitions).
    factors
        Positions of the factors to keep, rising.
    method, confidence, seed
        As for :func:`cosim.statistics.interval.interval`.

    Returns
    -------
    Interval
        Of the shape of the levels of ``factors``.

    Examples
    --------
    >>> table = np.array([[[1.0, 1.0], [3.0, 3.0]], [[5.0, 5.0], [7.0, 7.0]]])
    >>> marginal(table, (0,)).mean.tolist()
    [2.0, 6.0]
    """
    others = tuple(axis for axis in range(values.ndim - 1) if axis not in factors)
    return interval(values.mean(axis=others), method=method, confidence=confidence, seed=seed)


def interaction(means: Floats) -> Floats:
    """Return how far each cell of a table is from the sum of what its row and its column do.

    Examples
    --------
    >>> interaction(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return np.asarray(
        means - means.mean(axis=0, keepdims=True) - means.mean(axis=1, keepdims=True) + means.mean()
    )


def factorial_indices(values: Floats, confidence: float = 0.95) -> Indices:
    """Return Sobol's indices of each factor of a full crossing.

    Levels are taken as equally likely, and as all there are: the indices are of
    the grid, not of what lies between its points. With V the variance of the
    cells' true means over the grid,

    - first order: the variance of a factor's own level means over V;
    - total: the mean, over all settings of the others, of the variance the
      factor makes, over V.

    What chance adds to a variance of means is estimated from the interaction of
    cells with repetitions (common random numbers make repetitions blocks) and
    taken off; the interval is a jackknife over repetitions. With one repetition
    neither can be done.

    Parameters
    ----------
    values
        Finite, shape (levels of the first factor, ..., of the last, num_repetitions).
    confidence
        Of the intervals.

    Source
    ------
    A. Saltelli et al., "Global Sensitivity Analysis: The Primer", Wiley, 2008,
    sec. 4.5; the correction is that of a mixed analysis of variance, H. Scheffe,
    "The Analysis of Variance", Wiley, 1959, ch. 8.
    """
    num_factors = values.ndim - 1
    return jackknifed(
        values,
        _indices,
        confidence,
        told="analysis of variance of the grid; levels equally likely"
        + (
            "; what chance adds taken off"
            if values.shape[-1] > 1
            else "; one repetition, so what chance adds is in it"
        ),
        num_factors=num_factors,
    )


def _indices(values: Floats) -> Floats:
    """Return first-order and total indices, shape (2, num_factors); nan where nothing varies."""
    axes = tuple(range(values.ndim - 1))
    means = values.mean(axis=-1)
    noise = _noise(values)
    total = max(float(means.var()) - noise * (means.size - 1) / means.size, 0.0)
    if total <= 1e-12 * float(np.max(means**2)):
        return np.full((2, len(axes)), np.nan)
    own, made = np.zeros(len(axes)), np.zeros(len(axes))
    for axis in axes:
        others = tuple(one for one in axes if one != axis)
        num_levels = means.shape[axis]
        own[axis] = float(means.mean(axis=others).var()) - noise * (num_levels - 1) / means.size
        made[axis] = float(means.var(axis=axis).mean()) - noise * (num_levels - 1) / num_levels
    # No variance is below zero, that of an interaction neither: shares a factor makes alone
    # do not add up to more than there is, and with others it makes no less.
    own = np.maximum(own, 0.0)
    whole = max(total, float(own.sum()))
    return np.asarray(np.stack([own, np.clip(made, own, whole)]) / whole)


def _noise(values: Floats) -> float:
    """Return the variance chance gives to one cell's mean against the others."""
    count = int(values.shape[-1])
    cells = values.size // count
    if count < 2 or cells < 2:
        return 0.0
    flat = values.reshape(cells, count)
    left = flat - flat.mean(axis=1, keepdims=True) - flat.mean(axis=0, keepdims=True) + flat.mean()
    return float(np.sum(left**2)) / ((cells - 1) * (count - 1)) / count


def pairs(num_factors: int) -> list[tuple[int, int]]:
    """Return every pair of factors, the first before the second.

    Examples
    --------
    >>> pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(one, other) for one, other in product(range(num_factors), repeat=2) if one < other]
