"""One path through the air: all that a part which changes it may know of it."""

from collections.abc import Callable
from dataclasses import dataclass

from cosim.rng import Stream
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Users:
    """Clients of other cells, which take no part in the learning.

    Attributes
    ----------
    serving
        Base station of each, shape (num_users,).
    station_gains
        Linear power gain to every base station, before fading, shape (num_users, num_stations).
    """

    serving: Ints
    station_gains: Floats


@dataclass(frozen=True, eq=False)
class Network:
    """The base stations, seen from one client over some blocks.

    Attributes
    ----------
    serving
        Number of the base station that serves it, shape (count,).
    station_gains
        Linear power gain to every base station, before fading, shape (count, num_stations).
    users
        Places so many other users as the placement places clients, and returns them; the
        same ones at every call.
    stream
        Chance that all paths share.
    """

    serving: Ints
    station_gains: Floats
    users: Callable[[int], Users]
    stream: Stream


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
    network
        All base stations; None where nobody knows of others.
    """

    link: str
    client: int
    is_uplink: bool
    time_ns: Ints
    client_m: Floats
    station_m: Floats
    stream: Stream
    network: Network | None = None

    @property
    def receiver_m(self) -> Floats:
        """Where the receiver is, m, shape (count, 2)."""
        return self.station_m if self.is_uplink else self.client_m
