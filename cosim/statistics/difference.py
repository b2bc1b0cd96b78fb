"""What changed from one case to another, and what it was worth that both met the same chance."""

from dataclasses import dataclass

import numpy as np

from cosim.statistics.interval import Interval, Method, interval, t_quantile
from cosim.units import Floats

_ROUNDING = 1e-13


@dataclass(frozen=True)
class Difference:
    """The difference of two means, found pair by pair.

    Attributes
    ----------
    mean, low, high
        Of the pairs' differences; the ends are nan with a single pair.
    num_pairs
        How many there are.
    unpaired_low, unpaired_high
        The ends had the two been told apart without the pairs (Welch).
    variance_reduction
        The variance of the difference without pairs over that with them: how many
        times as many repetitions unpaired cases would have needed. Below one the
        pairs have done harm; inf where all pairs differ alike; nan with one pair
        or where nothing varies.
    """

    mean: float
    low: float
    high: float
    num_pairs: int
    unpaired_low: float
    unpaired_high: float
    variance_reduction: float

    @property
    def detectable(self) -> bool | None:
        """Whether the interval keeps clear of zero; None where there is no interval."""
        if np.isnan(self.low):
            return None
        return self.low > 0.0 or self.high < 0.0


def difference(
    after: Floats, before: Floats, *, method: Method = "t", confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Return ``after`` less ``before``, repetition by repetition.

    A difference within a few roundings of the numbers themselves is none: two runs that did
    the same in another order are the same.

    Parameters
    ----------
    after, before
        Finite, shape (num_pairs,); the same position is the same repetition.
    method, confidence, seed
        As for :func:`cosim.statistics.interval.interval`.

    Raises
    ------
    ValueError
        If the two differ in length, or as :func:`cosim.statistics.interval.interval`.

    Examples
    --------
    >>> found = difference(np.array([3.0, 5.0, 7.1]), np.array([2.0, 4.0, 6.0]))
    >>> round(found.mean, 2), found.detectable, found.variance_reduction > 1000
    (1.03, True, True)
    """
    after, before = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if after.shape != before.shape or after.ndim != 1:
        raise ValueError(f"pairs need two rows of one length, got {after.shape} and {before.shape}")
    found = interval(_differences(after, before), method=method, confidence=confidence, seed=seed)
    apart = welch(after, before, confidence)
    return Difference(
        mean=float(found.mean),
        low=float(found.low),
        high=float(found.high),
        num_pairs=len(after),
        unpaired_low=float(apart.low),
        unpaired_high=float(apart.high),
        variance_reduction=_variance_reduction(after, before),
    )


def log_ratio(
    after: Floats, before: Floats, *, method: Method = "t", confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean logarithm of pairs' ratios with its interval; its exponential is of geometric means.

    For positive values that differ by factors from repetition to repetition, whose differences are
    those of the few largest. Parameters, errors and what counts as none as for :func:`difference`.

    Examples
    --------
    >>> found = log_ratio(np.array([1.0, 10.0, 99.0]), np.array([2.0, 20.0, 200.0]))
    >>> [round(float(one), 3) for one in np.exp(found)]
    [0.498, 0.491, 0.506]
    """
    after, before = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    ratios = np.log1p(_differences(after, before) / before)
    return interval(ratios, method=method, confidence=confidence, seed=seed)


def welch(after: Floats, before: Floats, confidence: float = 0.95) -> Interval:
    """Return the difference of two means and its interval, for repetitions that are no pairs.

    Parameters
    ----------
    after, before
        Finite, shapes (..., num_after) and (..., num_before).
    confidence
        How often the interval should hold the true difference.

    Source
    ------
    B. L. Welch, "The generalization of Student's problem when several different
    population variances are involved", Biometrika 34, 1947.
    """
    counts = [np.shape(values)[-1] for values in (after, before)]
    mean = np.asarray(np.mean(after, axis=-1) - np.mean(before, axis=-1))
    if min(counts) < 2:
        return Interval(mean, mean * np.nan, mean * np.nan)
    shares = [
        np.var(values, axis=-1, ddof=1) / count for values, count in zip((after, before), counts, strict=True)
    ]
    total = np.asarray(shares[0] + shares[1])
    whole = np.where(total > 0.0, total, 1.0)
    parts = [(share / whole) ** 2 / (count - 1) for share, count in zip(shares, counts, strict=True)]
    degrees = np.where(total > 0.0, 1.0 / np.maximum(parts[0] + parts[1], 1e-12), 1.0)
    half = t_quantile(degrees, confidence) * np.sqrt(total)
    return Interval(mean, mean - half, mean + half)


def _variance_reduction(after: Floats, before: Floats) -> float:
    if len(after) < 2:
        return float("nan")
    apart = float(np.var(after, ddof=1) + np.var(before, ddof=1))
    paired = float(np.var(_differences(after, before), ddof=1))
    # What is left of equal differences after rounding is no variance.
    if paired <= 1e-24 * apart:
        return float("inf") if apart > 0.0 else float("nan")
    return apart / paired


def _differences(after: Floats, before: Floats) -> Floats:
    found = after - before
    return np.where(np.abs(found) <= _ROUNDING * np.maximum(np.abs(after), np.abs(before)), 0.0, found)
