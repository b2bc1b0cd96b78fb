"""Drift: a window that moves over each client's examples as simulated time goes on."""

from collections.abc import Sequence
from math import floor

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.partition import groups_by
from cosim.parts import LONGEST_S, Table


class Drift(Table):
    """Local data that change during a run.

    Of its examples, put in order by a field, a client draws from a window that moves at a
    constant rate from the first ones to the last. A window is looked up when a round begins. Held-out
    examples are ordered and seen through a window likewise, so a loss is that on the data of the day.

    Attributes
    ----------
    window
        Share of a client's examples that the window holds.
    duration_s
        Simulated time after which the window has reached the last examples; nothing may begin later.
    by
        Field that orders the examples, ``label`` for the class; without it they are as the source has
        them. Those of equal values stay in their order.
    """

    window: float = Field(default=0.25, gt=0.0, le=1.0)
    duration_s: float = Field(gt=0.0, le=LONGEST_S)
    by: str | None = None

    def ordered(self, rows: Sequence[int], examples: Sequence[Example]) -> tuple[int, ...]:
        """Return the rows of some examples in the order in which the window meets them.

        Raises
        ------
        ScenarioError
            If an example has no such field.
        """
        if self.by is None:
            return tuple(rows)
        groups = groups_by(self.by, [examples[row] for row in rows], "data.drift.by").values()
        return tuple(rows[place] for group in groups for place in group.tolist())

    def count(self, num_rows: int) -> int:
        """Return how many of a client's examples the window holds, at least one."""
        return max(1, round(self.window * num_rows))

    def first(self, num_rows: int, time_s: float) -> int:
        """Return where in them the window begins at an instant.

        Raises
        ------
        ScenarioError
            If it would be beyond the last example.

        Examples
        --------
        >>> [Drift(window=0.5, duration_s=10.0).first(20, at_s) for at_s in (0.0, 5.0, 9.99, 10.0)]
        [0, 5, 9, 10]
        """
        if time_s > self.duration_s:
            raise ScenarioError(
                f"data.drift.duration_s: the window has reached the last examples at {self.duration_s:g} s, "
                f"and a round begins at {time_s:.6g} s; take a longer duration_s, or end the run earlier."
            )
        return floor((num_rows - self.count(num_rows)) * (time_s / self.duration_s))
