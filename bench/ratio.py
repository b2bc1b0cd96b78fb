"""What a benchmark returns, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal


@dataclass(frozen=True)
class Ratio:
    """One measured ratio and what it is held against.

    Attributes
    ----------
    name
        What was divided by what.
    value
        The ratio.
    limit
        At most, or at least, this; None where it is only reported.
    sense
        Which of the two.
    note
        What the two sides took.
    """

    name: str
    value: float
    limit: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the ratio keeps its limit."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit

    def __str__(self) -> str:
        held = (
            ""
            if self.limit is None
            else f"  ({self.sense} {self.limit:g}: {'ok' if self.holds else 'MISSED'})"
        )
        return f"{self.value:10.4g}  {self.name}{held}" + (f"\n            {self.note}" if self.note else "")


@dataclass(frozen=True)
class Paired:
    """The median of paired ratios, and an interval that holds the true one at least 95 times in 100."""

    median: float
    low: float
    high: float
    num_pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.num_pairs} pairs"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Return the median of ratios pair by pair, with its interval by the sign test.

    The interval ends at order statistics, so a burst of other work on the machine moves it little.

    Raises
    ------
    ValueError
        With fewer than six pairs, which give no interval of 95 %.

    Source
    ------
    W. J. Conover, "Practical nonparametric statistics", 3rd ed., Wiley, 1999, section 3.2.

    Examples
    --------
    >>> paired([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0] * 6)
    Paired(median=3.5, low=1.0, high=6.0, num_pairs=6)
    """
    ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    count = len(ratios)
    left_out, tail = -1, 0
    while 2 * (tail + comb(count, left_out + 1)) <= 0.05 * 2**count:
        left_out += 1
        tail += comb(count, left_out)
    if left_out < 0:
        raise ValueError(f"{count} pairs give no interval of 95 %; six do")
    middle = (ratios[(count - 1) // 2] + ratios[count // 2]) / 2.0
    return Paired(middle, ratios[left_out], ratios[count - 1 - left_out], count)
