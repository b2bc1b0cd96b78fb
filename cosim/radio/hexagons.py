"""The hexagonal plan of cells: sites on a triangular lattice, each in the middle of a hexagon."""

import numpy as np
from numpy.typing import NDArray

from cosim.units import Floats

_TOUCH = 1e-9  # of the distance between sites: a place on the border is in the layout


def sites_m(inter_site_distance_m: float, num_rings: int) -> Floats:
    """Return the sites of some rings around one at the origin, ring by ring, m, shape (num_sites, 2).

    Examples
    --------
    >>> len(sites_m(500.0, 2))
    19
    """
    turns = np.arange(6) / 6.0
    corners = np.stack([np.cos(2.0 * np.pi * turns), np.sin(2.0 * np.pi * turns)], axis=1)
    found = [np.zeros(2)]
    for ring in range(1, num_rings + 1):
        for side in range(6):
            ahead = corners[(side + 2) % 6]
            found += [ring * corners[side] + step * ahead for step in range(ring)]
    return np.asarray(inter_site_distance_m * np.array(found))


def nearest_m(away_m: Floats, inter_site_distance_m: float, num_rings: int) -> Floats:
    """Return ways between two places, each to the nearest image where the whole layout repeats itself.

    The layout of ``n`` sites tiles the plane by a lattice of distance sqrt(n) between
    sites; one of the nine lattice points around is the nearest.

    Parameters
    ----------
    away_m
        Ways, m, shape (..., 2).
    """
    ring = float(num_rings)
    half, height = 0.5, np.sqrt(0.75)
    first = inter_site_distance_m * np.array([ring + 1.0 + ring * half, ring * height])
    second = np.array([first[0] * half - first[1] * height, first[0] * height + first[1] * half])
    basis = np.stack([first, second])  # rows are vectors
    inverse = np.linalg.inv(basis)
    along = away_m[..., :1] * inverse[0] + away_m[..., 1:] * inverse[1]
    home = np.floor(along + 0.5)
    best = away_m - (home[..., :1] * first + home[..., 1:] * second)
    start = best
    for one, two in [(-1, 0), (0, -1), (1, -1), (-1, 1), (0, 1), (1, 0), (1, 1), (-1, -1)]:
        other = start - (one * first + two * second)
        is_nearer = np.hypot(other[..., 0], other[..., 1]) < np.hypot(best[..., 0], best[..., 1])
        best = np.where(is_nearer[..., np.newaxis], other, best)
    return np.asarray(best)


def is_inside(positions_m: Floats, inter_site_distance_m: float, num_rings: int) -> NDArray[np.bool_]:
    """Return whether places are in a hexagon of some site, shape (...), for places of shape (..., 2)."""
    away_m = positions_m[..., np.newaxis, :] - sites_m(inter_site_distance_m, num_rings)
    turns = np.arange(3) / 6.0
    across = [
        np.abs(away_m[..., 0] * np.cos(2.0 * np.pi * turn) + away_m[..., 1] * np.sin(2.0 * np.pi * turn))
        for turn in turns
    ]
    reach_m = inter_site_distance_m * (0.5 + _TOUCH)
    return np.asarray((np.maximum.reduce(across) <= reach_m).any(axis=-1))
