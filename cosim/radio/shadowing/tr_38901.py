"""Shadowing as the standard has it for the state of each path."""

from typing import ClassVar, Literal

import numpy as np

from cosim.radio.geometry import Geometry
from cosim.radio.propagation import Propagation
from cosim.radio.random_field import normals
from cosim.radio.shadowing import Shadowing
from cosim.rng import Stream
from cosim.units import Floats


class Tr38901Shadowing(Shadowing):
    """Normal in dB, with standard deviation and correlation distance of the state the path loss is in.

    Line of sight, no line of sight and indoors each have a field of their own for each
    site, so that shadowing jumps where a client changes from one to another. Sites are
    independent of each other; sectors of one site share it.

    Source
    ------
    3GPP TR 38.901 V19.2, Table 7.4.1-1 (standard deviations), Table 7.5-6 (correlation
    distances, and indoors), clause 7.4.4 (autocorrelation).
    """

    kind: Literal["tr_38901"] = "tr_38901"
    needs_states: ClassVar[bool] = True

    def draw_db(self, stream: Stream, num_clients: int) -> Floats:
        """Return standard normal draws, which a state's standard deviation scales, shape (num_clients,)."""
        return normals(stream, num_clients)

    def losses_db(self, geometry: Geometry, propagation: Propagation) -> Floats:
        total = np.zeros(geometry.distances_m.shape)
        for state in propagation.states:
            if state.holds.any():
                drawn = geometry.normals_of_sites(f"shadowing, {state.name}", state.correlation_m)
                total += np.where(state.holds, state.std_db * drawn, 0.0)
        return total
