"""How much a search may do: counted in steps of work, never in time, so that it ends alike everywhere."""

from math import inf

_NUMBERS = 10_000
"""Numbers that are worked on in about the time a step takes by itself."""


class Effort:
    """Counts steps until a limit is reached.

    Parameters
    ----------
    limit
        Steps that may be made; the one that exceeds them is still finished.
    """

    def __init__(self, limit: float = inf) -> None:
        self.limit = limit
        self.spent = 0.0

    def spend(self, numbers: float, times: int = 1) -> None:
        """Count steps, each on so many numbers."""
        self.spent += times * (1.0 + numbers / _NUMBERS)

    @property
    def is_spent(self) -> bool:
        """Whether the search must end."""
        return self.spent >= self.limit
