"""Moving along straight legs, from corner to corner, at a constant speed on each."""

from dataclasses import dataclass

import numpy as np

from cosim.units import Floats


@dataclass(frozen=True, eq=False)
class Polyline:
    """Where one client is at which time.

    Attributes
    ----------
    time_s
        When it is at each corner, s, never decreasing, shape (num_corners,).
    corners_m
        Where they are, m, shape (num_corners, 2).
    """

    time_s: Floats
    corners_m: Floats

    def at(self, time_s: Floats) -> Floats:
        """Return the place at some instants, m, shape (num_instants, 2)."""
        return np.stack([np.interp(time_s, self.time_s, axis_m) for axis_m in self.corners_m.T], axis=-1)

    def travelled_m(self, time_s: Floats) -> Floats:
        """Return the length of the way until some instants, m, shape (num_instants,)."""
        legs_m = np.hypot(*np.diff(self.corners_m, axis=0).T)
        return np.asarray(np.interp(time_s, self.time_s, np.concatenate([[0.0], np.cumsum(legs_m)])))
