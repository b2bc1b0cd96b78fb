"""What a search for the best owners of a barrier ends with."""

from dataclasses import dataclass

from cosim.allocation.power_control import Powers
from cosim.units import Ints


@dataclass(frozen=True, eq=False)
class Proof:
    """What is known of a barrier after the search.

    Attributes
    ----------
    owners, powers
        The best decision found.
    bound_s
        No decision is done before this, s, unless it is done after the cutoff.
    is_closed
        Whether decision, or cutoff, and bound have met; else a limit ended the search.
    num_steps
        Nodes looked at, or linear programs solved.
    """

    owners: Ints
    powers: Powers
    bound_s: float
    is_closed: bool
    num_steps: int
