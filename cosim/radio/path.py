"""One path through the air: all that a part which changes it may know of it."""

from dataclasses import dataclass

from cosim.rng import Stream
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Path:
    """One client's path on one link, over some blocks.

    Attributes
    ----------
    link, client
        Which link, by name; which client, from 0.
    is_uplink
        Whether the client sends.
    time_ns
        When each block begins, ns, shape (count,).
    client_m, station_m
        Where the client is, and the base station that serves it, m, shape (count, 2).
    stream
        Chance of this path and of the part that is asked, and of no other.
    """

    link: str
    client: int
    is_uplink: bool
    time_ns: Ints
    client_m: Floats
    station_m: Floats
    stream: Stream

    @property
    def receiver_m(self) -> Floats:
        """Where the receiver is, m, shape (count, 2)."""
        return self.station_m if self.is_uplink else self.client_m
