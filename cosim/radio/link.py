"""A link: what a scheme sends over, in which direction, and what it can cope with there."""

from typing import Literal, NamedTuple


class Link(NamedTuple):
    """One link between all clients and one server.

    Attributes
    ----------
    name
        Of its table in ``[radio]``.
    direction
        ``up``: clients send; ``down``: the server does.
    server
        The server at the other end.
    takes_sums
        Whether the server can go on with the weighted sum of what clients send at once.
    takes_losses
        Whether the scheme can go on without what did not arrive.
    """

    name: str
    direction: Literal["up", "down"]
    server: str
    takes_sums: bool = False
    takes_losses: bool = False

    @property
    def is_uplink(self) -> bool:
        """Whether clients send."""
        return self.direction == "up"
