"""Units at the edge: decibels to linear, seconds to the clock's integer nanoseconds.

Inside cosim everything is SI and linear; decibels live in scenario files and
in formulas a standard writes that way, and say so in their names.
"""

from fractions import Fraction
from math import ceil, floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
"""Nanoseconds in a second."""

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def db_to_linear(value_db: float) -> float:
    """Return a power ratio from decibels.

    Examples
    --------
    >>> db_to_linear(3.0)
    1.9952623149688795
    """
    return float(10.0 ** (value_db / 10.0))


def dbm_to_w(value_dbm: float) -> float:
    """Return watts from decibels over a milliwatt.

    Examples
    --------
    >>> dbm_to_w(30.0)
    1.0
    """
    return db_to_linear(value_dbm - 30.0)


def linear_to_db(value: Any) -> Any:
    """Return decibels from a power ratio, a number or an array; zero gives minus infinity."""
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(value)


def seconds_to_ns(seconds: float) -> int:
    """Return a span of time given by a person or a file, rounded to the nearest nanosecond.

    Examples
    --------
    >>> seconds_to_ns(0.1)
    100000000
    """
    return round(seconds * NS_PER_S)


def drain_ns(amount: float | Fraction, rate_per_s: float) -> int:
    """Return the first whole nanosecond by which ``amount`` has drained at ``rate_per_s``.

    Exact: a float is a rational number, and the division is done on integers,
    so the answer never depends on rounding. A closed form in this project means
    this: amount over rate, rounded up to the clock's grid.

    Raises
    ------
    ValueError
        If the rate is not positive and finite, or the amount is negative.

    Examples
    --------
    >>> drain_ns(1, 3.0)
    333333334
    >>> drain_ns(0, 3.0)
    0
    """
    if not 0.0 < rate_per_s < float("inf"):
        raise ValueError(f"a rate must be positive and finite, got {rate_per_s}")
    if amount < 0:
        raise ValueError(f"an amount must not be negative, got {amount}")
    top, bottom = amount.as_integer_ratio()
    rate_top, rate_bottom = rate_per_s.as_integer_ratio()
    return -(-top * rate_bottom * NS_PER_S // (bottom * rate_top))


def rounded_up(value: float, digits: int = 3) -> float:
    """Return a positive number with so many digits, and not below it: what to tell a user to give at least.

    Examples
    --------
    >>> rounded_up(0.001953125), rounded_up(2.0)
    (0.00196, 2.0)
    """
    unit = 10.0 ** (floor(log10(value)) - digits + 1)
    return float(f"{ceil(value / unit - 1e-9) * unit:.{digits}g}")
