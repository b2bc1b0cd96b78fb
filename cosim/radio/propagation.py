"""What a path loss says of the way from a site to a client."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosim.units import Floats


class ShadowState(NamedTuple):
    """One state in which shadowing has a process of its own, such as line of sight.

    Attributes
    ----------
    name
        Of the state; it names the chance of the process.
    holds
        Where it holds, shape (num_instants, num_clients, num_sites).
    std_db
        Standard deviation, dB, in a shape that fits ``holds``.
    correlation_m
        Distance over which the correlation falls to 1/e, m; None where each client
        has one draw, kept wherever it goes.
    """

    name: str
    holds: NDArray[np.bool_]
    std_db: Floats | float
    correlation_m: float | None


class Propagation(NamedTuple):
    """Path loss and states of shadowing; arrays are of shape (num_instants, num_clients, num_sites).

    Attributes
    ----------
    loss_db
        Path loss, walls included, dB.
    heights_m
        How much higher each client is than the sites, m, shape (num_instants, num_clients);
        0 where the path loss knows no heights.
    is_los
        Whether there is line of sight; None where the path loss does not ask.
    states
        States of shadowing, exactly one of which holds; none where the path loss knows none.
    """

    loss_db: Floats
    heights_m: Floats | float = 0.0
    is_los: NDArray[np.bool_] | None = None
    states: tuple[ShadowState, ...] = ()
