"""Power control written down for a general convex solver: an oracle for tests, a rival for the bench."""

from typing import Any

import numpy as np

from cosim.control.closed_form import Phase
from cosim.units import Ints


class ConvexPower:
    """The barrier's problem in cvxpy, power as a share of each client's limit and rate in units of width.

    In watts and bit/s, or with power as the exponential of rate, the numbers span
    so many decades that the solver itself is off by some 1e-5. With
    ``is_parametrised`` the loads can be set anew and the problem solved again
    without being built again.
    """

    def __init__(self, phase: Phase, assignment: Ints, *, is_parametrised: bool = False) -> None:
        """Build the problem of a barrier with the client that owns each subchannel given."""
        import cvxpy as cp

        clients = range(phase.num_clients)
        width = float(phase.bandwidths_hz.mean())
        widths = phase.bandwidths_hz / width
        gains = phase.gains[assignment, np.arange(phase.num_subchannels)]
        limits = phase.max_tx_power_w
        self._width = width
        self.deadline = cp.Variable()
        self.powers = cp.Variable(phase.num_subchannels, nonneg=True)  # share of its client's limit
        self.loads = cp.Parameter(phase.num_clients, nonneg=True) if is_parametrised else phase.bits / width
        self.starts = cp.Parameter(phase.num_clients, nonneg=True) if is_parametrised else phase.compute_s
        self.load(phase)
        mine = np.array([assignment == client for client in clients], dtype=float)
        # log(1 + snr p) as log(1 / snr + p) + log(snr): the cone then holds numbers near one.
        snr = gains * limits[assignment] / phase.bandwidths_hz
        nats = cp.log(1.0 / snr + self.powers) + np.log(snr)
        if np.isfinite(phase.cap_bit_per_s_per_hz):
            nats = cp.minimum(nats, phase.cap_bit_per_s_per_hz * np.log(2.0))
        rates = (mine * widths / np.log(2.0)) @ nats
        used = mine @ self.powers
        left = self.deadline - self.starts
        constraints = []
        if is_parametrised:  # a product of two parameters could not be compiled once for all
            left = cp.Variable(phase.num_clients)
            constraints = [left == self.deadline - self.starts]
        constraints += [
            cp.multiply(self.loads, cp.inv_pos(left)) <= rates,
            used <= 1.0,
        ]
        total = phase.max_total_tx_power_w
        if np.isfinite(total):
            constraints.append((limits / total) @ used <= 1.0)
        self.problem: Any = cp.Problem(cp.Minimize(self.deadline), constraints)

    def load(self, phase: Phase) -> None:
        """Take what is computed and sent from another barrier, where they are parameters."""
        import cvxpy as cp

        if isinstance(self.loads, cp.Parameter):
            self.loads.value = phase.bits / self._width
            self.starts.value = phase.compute_s

    def solve(self) -> float:
        """Return the deadline the solver finds, s."""
        self.problem.solve(solver="CLARABEL")
        if self.problem.status != "optimal":
            raise RuntimeError(f"the solver says {self.problem.status}")
        return float(self.deadline.value)
