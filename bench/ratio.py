"""What a benchmark returns, and how it is shown."""

from dataclasses import dataclass
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
