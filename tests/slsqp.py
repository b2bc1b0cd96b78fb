"""A round of TSFA written down for a general solver: an oracle for tests, a rival for the bench."""

from dataclasses import dataclass

import numpy as np

from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats

_LN2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class SmoothRound:
    """Exponential curves ``energy * exp(-decay * ratio)``, with weights in the energies, by SLSQP.

    Bandwidth is counted in shares of the band and time in units of the limit, and
    all gradients are given, so that the solver has it as easy as it can.
    """

    uplink: Uplink
    energies: Floats
    decays: Floats

    def by(self, deadline_s: float, *, tolerance: float = 1e-15) -> float:
        """Return the least energy unsent by a deadline."""
        from scipy.optimize import minimize

        up, number = self.uplink, self.uplink.num_clients
        left = deadline_s - up.start_s
        floor = up.needed_hz(up.overhead_bits, deadline_s) / up.bandwidth_hz
        most = up.needed_hz(up.overhead_bits + up.dense_bits, deadline_s) / up.bandwidth_hz
        most = np.maximum(np.minimum(most, 1.0), floor)

        def unsent(share: Floats) -> tuple[float, Floats]:
            width = np.maximum(share, 1e-15) * up.bandwidth_hz
            snr = up.snr_hz / width
            rate = width * np.log1p(snr) / _LN2
            slope = (np.log1p(snr) - snr / (1.0 + snr)) / _LN2
            ratio = (left * rate - up.overhead_bits) / up.dense_bits
            each = self.energies * np.exp(-self.decays * ratio)
            return float(each.sum()), -each * self.decays * left * slope * up.bandwidth_hz / up.dense_bits

        spare = 1.0 - floor.sum()
        start = np.minimum(floor + spare / number, most)
        found = minimize(
            unsent,
            start,
            jac=True,
            method="SLSQP",
            bounds=list(zip(floor, most, strict=True)),
            constraints={
                "type": "ineq",
                "fun": lambda share: 1.0 - share.sum(),
                "jac": lambda share: -np.ones(number),
            },
            options={"ftol": tolerance, "maxiter": 500},
        )
        return float(found.fun)

    def best(
        self, weight: float, queue_s: float, start_s: float, *, tolerance: float = 1e-13
    ) -> tuple[float, float]:
        """Return the least ``weight * unsent + queue_s * deadline`` and its deadline, s.

        Over deadline, shares and ratios together, as the problem is written down:
        every client has a constraint of its own. Begins at equal shares and a given deadline.
        """
        from scipy.optimize import minimize

        up, number = self.uplink, self.uplink.num_clients
        clients = np.arange(number)

        def total(x: Floats) -> tuple[float, Floats]:
            each = self.energies * np.exp(-self.decays * x[1 + number :])
            gradient = np.concatenate([[queue_s], np.zeros(number), -weight * each * self.decays])
            return float(weight * each.sum() + queue_s * x[0]), gradient

        def margins(x: Floats) -> Floats:
            width = np.maximum(x[1 : 1 + number], 1e-12) * up.bandwidth_hz
            rate = width * np.log1p(up.snr_hz / width) / _LN2
            sent = x[1 + number :] + up.overhead_bits / up.dense_bits
            return np.append((x[0] - up.start_s) * rate / up.dense_bits - sent, 1.0 - x[1 : 1 + number].sum())

        def margin_gradients(x: Floats) -> Floats:
            width = np.maximum(x[1 : 1 + number], 1e-12) * up.bandwidth_hz
            snr = up.snr_hz / width
            rate = width * np.log1p(snr) / _LN2
            slope = (np.log1p(snr) - snr / (1.0 + snr)) / _LN2
            gradients = np.zeros((number + 1, 1 + 2 * number))
            gradients[:number, 0] = rate / up.dense_bits
            gradients[clients, 1 + clients] = (x[0] - up.start_s) * slope * up.bandwidth_hz / up.dense_bits
            gradients[clients, 1 + number + clients] = -1.0
            gradients[number, 1 : 1 + number] = -1.0
            return gradients

        begin = np.concatenate([[start_s], np.full(number, 1.0 / number), np.zeros(number)])
        begin[1 + number :] = np.clip(margins(begin)[:-1], 0.0, 1.0)
        bounds = [(up.start_s.max() + 1e-9, None), *[(1e-9, 1.0)] * number, *[(0.0, 1.0)] * number]
        found = minimize(
            total,
            begin,
            jac=True,
            method="SLSQP",
            bounds=bounds,
            constraints={"type": "ineq", "fun": margins, "jac": margin_gradients},
            options={"ftol": tolerance, "maxiter": 500},
        )
        return float(found.fun), float(found.x[0])


@dataclass(frozen=True, eq=False)
class SteppedRound:
    """Curves of straight pieces, by SLSQP: each piece is a line that the client's unsent energy lies above.

    Attributes
    ----------
    uplink
        Who sends over what.
    heights, falls
        Each client's lines, weights included: energy at nothing sent, and what they
        fall by per sparsification ratio, shape (num_clients, num_pieces).
    """

    uplink: Uplink
    heights: Floats
    falls: Floats

    @classmethod
    def of(cls, uplink: Uplink, bits: Floats, energies: Floats, weights: Floats) -> "SteppedRound":
        """Return the problem of pairs of some bits and energies, shape (num_clients, num_pairs)."""
        order = np.argsort(-energies / bits, axis=1, kind="stable")
        bits, energies = (np.take_along_axis(one, order, axis=1) for one in (bits, energies))
        energies = energies * weights[:, None]
        ratios = bits / uplink.dense_bits[:, None]
        falls = energies / ratios
        before = np.cumsum(ratios, axis=1) - ratios
        rest = energies[:, ::-1].cumsum(axis=1)[:, ::-1]
        return cls(uplink, rest + falls * before, falls)

    def best(
        self, weight: float, queue_s: float, start_s: float, *, tolerance: float = 1e-13
    ) -> tuple[float, float]:
        """Return the least ``weight * unsent + queue_s * deadline`` and its deadline, s."""
        from scipy.optimize import minimize

        up, number = self.uplink, self.uplink.num_clients
        pieces = self.falls.shape[1]
        clients = np.arange(number)
        share, ratio, rest = (slice(1 + i * number, 1 + (i + 1) * number) for i in range(3))
        gradient = np.concatenate([[queue_s], np.zeros(2 * number), np.full(number, weight)])
        lines = np.zeros((number * pieces + 1, 1 + 3 * number))
        rows = np.arange(number * pieces)
        lines[rows, 1 + number + rows // pieces] = self.falls.ravel()
        lines[rows, 1 + 2 * number + rows // pieces] = 1.0
        lines[-1, share] = -1.0
        shifts = np.append(-self.heights.ravel(), 1.0)

        def margins(x: Floats) -> Floats:
            width = np.maximum(x[share], 1e-12) * up.bandwidth_hz
            rate = width * np.log1p(up.snr_hz / width) / _LN2
            sent = x[ratio] + up.overhead_bits / up.dense_bits
            return (x[0] - up.start_s) * rate / up.dense_bits - sent

        def margin_gradients(x: Floats) -> Floats:
            width = np.maximum(x[share], 1e-12) * up.bandwidth_hz
            snr = up.snr_hz / width
            rate = width * np.log1p(snr) / _LN2
            slope = (np.log1p(snr) - snr / (1.0 + snr)) / _LN2
            gradients = np.zeros((number, 1 + 3 * number))
            gradients[:, 0] = rate / up.dense_bits
            gradients[clients, 1 + clients] = (x[0] - up.start_s) * slope * up.bandwidth_hz / up.dense_bits
            gradients[clients, 1 + number + clients] = -1.0
            return gradients

        begin = np.concatenate([[start_s], np.full(number, 1.0 / number), np.zeros(2 * number)])
        begin[ratio] = np.clip(margins(begin), 0.0, 1.0)
        begin[rest] = np.maximum((self.heights - self.falls * begin[ratio][:, None]).max(axis=1), 0.0)
        bounds = [
            (up.start_s.max() + 1e-9, None),
            *[(1e-9, 1.0)] * number,
            *[(0.0, 1.0)] * number,
            *[(0.0, None)] * number,
        ]
        found = minimize(
            lambda x: (float(gradient @ x), gradient),
            begin,
            jac=True,
            method="SLSQP",
            bounds=bounds,
            constraints=(
                {"type": "ineq", "fun": margins, "jac": margin_gradients},
                {"type": "ineq", "fun": lambda x: lines @ x + shifts, "jac": lambda x: lines},
            ),
            options={"ftol": tolerance, "maxiter": 500},
        )
        return float(found.fun), float(found.x[0])
