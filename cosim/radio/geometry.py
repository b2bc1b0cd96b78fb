"""Where clients are from the sites of base stations, and the chance of places and of clients."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosim.radio.random_field import field, normals
from cosim.rng import Stream
from cosim.units import Floats

DEFAULT_CARRIER_HZ = 2e9
"""The carrier of a radio that names none, Hz."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """All clients and sites at some instants; a site may bear several base stations.

    Attributes
    ----------
    client_m
        Where each client is, m, shape (num_instants, num_clients, 2).
    away_m
        From each site to each client, m, shape (num_instants, num_clients, num_sites, 2).
        Where the layout wraps around, from the nearest image of the site.
    carrier_hz
        Carrier frequency, Hz.
    of_places, of_clients
        Chance of what belongs to a place, and of what a client takes along.
    """

    client_m: Floats
    away_m: Floats
    carrier_hz: float
    of_places: Stream
    of_clients: Stream

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return int(self.client_m.shape[1])

    @property
    def num_sites(self) -> int:
        """How many sites there are."""
        return int(self.away_m.shape[2])

    @cached_property
    def distances_m(self) -> Floats:
        """Distance on the plane, m, shape (num_instants, num_clients, num_sites)."""
        return np.hypot(self.away_m[..., 0], self.away_m[..., 1])

    def own_uniforms(self, name: str) -> Floats:
        """Return one draw of each client, kept wherever it goes, shape (num_clients,)."""
        return self.of_clients.child(name).uniforms(0, self.num_clients, 1)[:, 0]

    def normals(self, name: str, correlation_m: float | None) -> Floats:
        """Return standard normal draws of each client, shape (num_instants, num_clients).

        Parameters
        ----------
        name
            What is drawn.
        correlation_m
            Distance over which the correlation between places falls to 1/e, m; None
            for draws that each client has for itself, wherever it goes.
        """
        if correlation_m is not None:
            return field(self.of_places.child(name), self.client_m, correlation_m)
        own = normals(self.of_clients.child(name), self.num_clients)
        return np.broadcast_to(own, self.client_m.shape[:-1])

    def normals_of_sites(self, name: str, correlation_m: float | None) -> Floats:
        """Return draws as :meth:`normals` does, independent between sites, shaped as distances."""
        sites = (self.normals(f"{name}, site {site}", correlation_m) for site in range(self.num_sites))
        return np.stack(list(sites), axis=-1)
