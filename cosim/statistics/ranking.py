"""How far two orders of the same things agree."""

import numpy as np

from cosim.units import Floats


def kendall_tau(first: Floats, second: Floats) -> Floats:
    """Return Kendall's tau-b over the last axis; 1 for the same order, -1 for the reverse.

    Two infinite values of one sign are tied. Where all values of a side are tied there is no
    order to agree with, and the answer is not a number.

    Parameters
    ----------
    first, second
        Values of the same things, shape (..., num_things).

    Source
    ------
    M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.

    Examples
    --------
    >>> float(kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))).__round__(3)
    0.333
    """
    one, other = _order(first), _order(second)
    shared = np.sum(one * other, axis=(-2, -1))
    size = np.sqrt(np.sum(one**2, axis=(-2, -1)) * np.sum(other**2, axis=(-2, -1)))
    return np.asarray(np.divide(shared, size, out=np.full(np.shape(size), np.nan), where=size > 0.0))


def _order(values: Floats) -> Floats:
    """Return which of each pair is larger: 1, 0 or -1, shape (..., num_things, num_things)."""
    values = np.asarray(values, dtype=np.float64)
    left, right = values[..., :, np.newaxis], values[..., np.newaxis, :]
    return (left > right).astype(np.float64) - (left < right)
