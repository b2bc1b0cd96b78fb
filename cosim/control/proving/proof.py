"""What a search for the best assignment of a barrier ends with."""

from dataclasses import dataclass
from typing import Literal

from cosim.control.solvers.power_control import Powers
from cosim.units import Ints


@dataclass(frozen=True, eq=False)
class Proof:
    """What is known of a barrier after the search.

    Attributes
    ----------
    assignment, powers
        The best decision found.
    bound_s
        No decision is done before this, s, unless it is done after the cutoff.
    num_steps
        Nodes looked at, or linear programs solved.
    stopped_by
        The limit that ended the search; empty if decision, or cutoff, and bound have met.
    """

    assignment: Ints
    powers: Powers
    bound_s: float
    num_steps: int
    stopped_by: Literal["", "work_limit", "node_limit", "too_many_sets"] = ""

    @property
    def is_closed(self) -> bool:
        """Whether the search came to its end."""
        return self.stopped_by == ""
