"""Intervals for a mean: Student's t, and the bootstrap.

Both take the last axis as the repetitions, so that many intervals are found in
one call.
"""

from typing import Literal, NamedTuple

import numpy as np

from cosim.rng import Stream, stream
from cosim.units import Floats

Method = Literal["t", "bootstrap"]

RESAMPLES = 4999
"""Resamples of a bootstrap; with it the ends of a 95 % interval move by about 1 % of its width."""

METHODS: dict[Method, str] = {
    "t": "Student's t",
    "bootstrap": f"bias-corrected and accelerated bootstrap (BCa, {RESAMPLES} resamples)",
}
"""The ways to find an interval, with what they are called."""


class Interval(NamedTuple):
    """A mean and the ends of its interval, each of the shape of what was asked for.

    The ends are nan where one repetition says nothing of chance.
    """

    mean: Floats
    low: Floats
    high: Floats

    @property
    def half_width(self) -> Floats:
        """Half the distance between the ends; for a bootstrap they need not be as far from the mean."""
        return np.asarray((self.high - self.low) / 2.0)


def interval(values: Floats, *, method: Method = "t", confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return mean and interval over the last axis by the method named.

    Parameters
    ----------
    values
        Finite, shape (..., num_repetitions), at least one repetition.
    method
        One of :data:`METHODS`.
    confidence
        How often the interval should hold the true mean, within (0, 1).
    seed
        Of the resamples; Student's t needs none.

    Raises
    ------
    ValueError
        If there is no repetition, a value is not finite, or the method or the
        confidence is none.

    Examples
    --------
    >>> found = interval(np.array([1.0, 2.0, 3.0]))
    >>> float(found.mean), round(float(found.half_width), 3)
    (2.0, 2.484)
    """
    if method == "t":
        return student_t(values, confidence)
    if method == "bootstrap":
        count = np.shape(values)[-1] if np.ndim(values) else 0
        resampling = stream(seed, "bootstrap", count)
        return bootstrap(values, confidence, resampling)
    raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")


def student_t(values: Floats, confidence: float = 0.95) -> Interval:
    """Return mean and interval over the last axis by Student's t.

    Exact for normal repetitions, and close for others unless they are few and
    skewed. Shapes and errors as for :func:`interval`.
    """
    values = _checked(values, confidence)
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    if count == 1:
        return Interval(mean, mean * np.nan, mean * np.nan)
    half = t_quantile(count - 1, confidence) * values.std(axis=-1, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def t_quantile(degrees: Floats | float, confidence: float) -> Floats:
    """Return how many standard errors a two-sided interval of Student's t reaches to either side.

    Examples
    --------
    >>> round(float(t_quantile(4, 0.95)), 3)
    2.776
    """
    from scipy.special import stdtrit

    return np.asarray(stdtrit(degrees, 0.5 + confidence / 2.0))


def bootstrap(
    values: Floats,
    confidence: float,
    resampling: Stream,
    *,
    corrected: bool = True,
    num_resamples: int = RESAMPLES,
) -> Interval:
    """Return mean and interval over the last axis from means of resampled repetitions.

    Every row meets the same resamples, so rows that rise together keep doing
    so. With fewer than about ten repetitions either kind is too narrow; take
    Student's t there.

    Parameters
    ----------
    values, confidence
        As for :func:`interval`.
    resampling
        Where the resamples come from.
    corrected
        Correct for bias and skew (BCa); without, plain percentiles.
    num_resamples
        How many means are drawn.

    Raises
    ------
    ValueError
        As :func:`interval`.

    Source
    ------
    B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", Chapman and
    Hall, 1993, ch. 13 and 14; equal means count half, as in SciPy.
    """
    from scipy.special import ndtr, ndtri

    values = _checked(values, confidence)
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    if count == 1:
        return Interval(mean, mean * np.nan, mean * np.nan)
    drawn = resampling.generator().integers(count, size=(num_resamples, count))
    weights = np.zeros((num_resamples, count))
    np.add.at(weights, (np.arange(num_resamples)[:, None], drawn), 1.0 / count)
    # Resampling what is left after the mean: a constant then stays a constant to the last bit.
    left = values - mean[..., None]
    means = np.sort(left @ weights.T, axis=-1)
    tails = np.array([(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    shares = np.broadcast_to(tails, (*mean.shape, 2))
    if corrected:
        largest = np.abs(left).max(axis=-1, keepdims=True)
        equal = 1e-12 * largest  # as equal as sums in another order are
        below = (np.sum(means < -equal, axis=-1) + np.sum(means <= equal, axis=-1)) / (2.0 * num_resamples)
        shift = ndtri(np.clip(below, 0.5 / num_resamples, 1.0 - 0.5 / num_resamples))[..., None]
        scaled = left / np.where(largest > 0.0, largest, 1.0)
        skew = np.sum(scaled**3, axis=-1) / np.maximum(6.0 * np.sum(scaled**2, axis=-1) ** 1.5, 1.0)
        moved = shift + ndtri(tails)
        shares = ndtr(shift + moved / (1.0 - skew[..., None] * moved))
    low, high = (mean + _quantile(means, shares[..., end]) for end in (0, 1))
    return Interval(mean, low, high)


def _quantile(ordered: Floats, share: Floats) -> Floats:
    """Return the value below which a share of each row lies, between the two nearest."""
    at = np.clip(share, 0.0, 1.0) * (ordered.shape[-1] - 1)
    first = np.minimum(np.floor(at).astype(np.int64), ordered.shape[-1] - 2)
    pair = [np.take_along_axis(ordered, (first + one)[..., None], axis=-1)[..., 0] for one in (0, 1)]
    return np.asarray(pair[0] + (at - first) * (pair[1] - pair[0]))


def _checked(values: Floats, confidence: float) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or not values.shape[-1]:
        raise ValueError("an interval needs at least one repetition")
    if not np.isfinite(values).all():
        raise ValueError("an interval is of finite values; leave out, and tell, what is not")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence should be within 0 and 1, got {confidence:g}")
    return values
