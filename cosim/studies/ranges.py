"""Ranges a setting is taken from, on a linear, logarithmic or decibel scale."""

from math import exp, log
from typing import Literal

from pydantic import Field, model_validator

from cosim.parts import Table
from cosim.units import db_to_linear


class Range(Table):
    """Values from ``low`` to ``high``, evenly spread on a scale.

    Attributes
    ----------
    low, high
        The ends, both within.
    scale
        ``linear``; ``log`` for even steps of a factor; ``db`` where ``low`` and
        ``high`` are in decibels and the setting is the linear power ratio, such as
        ``k_factor``. A setting that is in dB itself takes ``linear``.
    integer
        Whether the setting takes whole numbers: what is drawn is rounded, and
        all of them from ``low`` to ``high`` are as likely on a linear scale.
    """

    low: float
    high: float
    scale: Literal["linear", "log", "db"] = "linear"
    integer: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"whole numbers need whole ends, got {self.low:g} and {self.high:g}")
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError(f"a log scale needs a low above 0, got {self.low:g}; take linear")
        if self.scale == "db" and not -400.0 <= self.low < self.high <= 400.0:
            raise ValueError(
                f"a db scale goes from -400 to 400 dB, got {self.low:g} to {self.high:g}; it takes decibels"
            )
        return self

    def value(self, share: float) -> float | int:
        """Return the value at a share of the range, from 0 to 1.

        Examples
        --------
        >>> Range(low=1.0, high=100.0, scale="log").value(0.5)
        10.0
        >>> [Range(low=-10.0, high=10.0, scale="db").value(share) for share in (0.0, 0.5, 1.0)]
        [0.1, 1.0, 10.0]
        >>> [Range(low=1, high=2, integer=True).value(share) for share in (0.0, 0.49, 0.51, 1.0)]
        [1, 1, 2, 2]
        """
        if self.integer and self.scale == "linear":
            return min(int(self.low + share * (self.high - self.low + 1.0)), int(self.high))
        if self.scale == "log":
            value = exp(log(self.low) + share * (log(self.high) - log(self.low)))
            value = _tidy(min(max(value, self.low), self.high))
        else:
            value = self.low + share * (self.high - self.low)
            value = db_to_linear(value) if self.scale == "db" else value
        return round(value) if self.integer else float(value)


class Steps(Range):
    """Evenly spaced values of a grid, both ends among them; ``points`` is how many."""

    points: int = Field(ge=2, le=1_000_000)

    @property
    def num_values(self) -> int:
        """How many values there are."""
        return len(self.values()) if self.integer else self.points

    def values(self) -> tuple[float | int, ...]:
        """Return the values in rising order; whole numbers that coincide once.

        Examples
        --------
        >>> Steps(low=1e6, high=1e8, scale="log", points=3).values()
        (1000000.0, 10000000.0, 100000000.0)
        >>> Steps(low=1, high=3, integer=True, points=5).values()
        (1, 2, 3)
        """
        spread = self.model_copy(update={"integer": False})
        found = [spread.value(number / (self.points - 1)) for number in range(self.points)]
        return tuple(dict.fromkeys(round(one) for one in found)) if self.integer else tuple(found)


def _tidy(value: float) -> float:
    """Take away what rounding added behind the twelfth digit, so that a decade ends on its number."""
    return float(f"{value:.12g}")
