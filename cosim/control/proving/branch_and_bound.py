"""The best assignment of a barrier of many subchannels: branch and bound with exact power.

A node allows each subchannel some assignment. Its bound are prices (see
:mod:`cosim.control.proving.lagrangian`) under which even the best of them cannot earn
what a deadline just below the best one known asks for; the arithmetic is closed
form, so a node is given up on a proof and not on a solver's word. The same
prices also say of every single owner whether a subchannel could go there at
all. What is left is split by the owner of the subchannel that is most disputed.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Literal

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.proving.effort import Effort
from cosim.control.proving.lagrangian import Lagrangian, earliest_s
from cosim.control.proving.proof import Proof
from cosim.control.solvers.exchange import improve
from cosim.control.solvers.power_control import control_power
from cosim.cores import one_blas_thread
from cosim.units import Floats, Ints

_NORM = 256.0  # sharp enough to bound well, smooth enough for a quasi-Newton method
_NODE_STEPS, _CHILD_STEPS = 40, 12
_CANDIDATES = 4  # subchannels tried out before one is split on
_ROUNDING = 1.0 - 1e-11


@dataclass(order=True)
class _Node:
    bound_s: float
    number: int
    allowed: np.ndarray = field(compare=False)
    logs: Floats = field(compare=False)


def prove_by_prices(
    phase: Phase,
    assignment: Ints,
    bound_s: float,
    cutoff_s: float,
    gap: float,
    max_nodes: int,
    effort: Effort,
) -> Proof:
    """Return the best assignment of a barrier found, and what is proven of them.

    Parameters
    ----------
    max_nodes
        Nodes looked at before the search ends.
    phase, assignment, bound_s, cutoff_s, gap, effort
        As for :func:`~cosim.control.proving.prove.prove`.
    """
    return _Search(phase, assignment, cutoff_s, gap, effort).run(bound_s, max_nodes)


class _Search:
    """Best-first search; nodes are opened in the order of their bounds."""

    def __init__(self, phase: Phase, assignment: Ints, cutoff_s: float, gap: float, effort: Effort) -> None:
        self.phase = phase
        self.lagrangian = Lagrangian.of(phase)
        self.assignment = assignment
        self.powers = control_power(phase, assignment)
        self.cutoff_s = cutoff_s
        self.gap = gap
        self.effort = effort
        self._number = count()
        self._tried: set[bytes] = set()

    @property
    def target_s(self) -> float:
        """A node that cannot beat this is given up, s."""
        return min(self.cutoff_s, self.powers.deadline_s) * (1.0 - self.gap)

    def run(self, bound_s: float, max_nodes: int) -> Proof:
        allowed = self.phase.gains > 0.0
        heap = [_Node(bound_s, next(self._number), allowed, self.lagrangian.start())]
        num_nodes = 0
        while heap and heap[0].bound_s < self.target_s:
            if num_nodes >= max_nodes or self.effort.is_spent:
                limit: Literal["node_limit", "work_limit"] = (
                    "node_limit" if num_nodes >= max_nodes else "work_limit"
                )
                return Proof(self.assignment, self.powers, heap[0].bound_s, num_nodes, limit)
            num_nodes += 1
            for child in self._open(heappop(heap)):
                heappush(heap, child)
        return Proof(self.assignment, self.powers, self.target_s, num_nodes)

    def _open(self, node: _Node) -> list[_Node]:
        """Bound a node, try the decision it suggests, and split what is left of it."""
        logs = self._prices(node.allowed, node.logs, _NODE_STEPS)
        share = self._shares(logs, node.allowed)
        self._try(node.allowed, share)
        rate, _, _ = self.lagrangian.split(logs)
        ceiling, _, _, value = self.lagrangian.ceiling(logs, np.inf, node.allowed)
        asked = float((rate * self._needed(self.target_s)).sum())
        worth = np.where(node.allowed, value, 0.0)
        dearest = worth.max(axis=0)
        kept = node.allowed & (ceiling - (dearest - worth) * self.lagrangian.widths_hz >= asked * _ROUNDING)
        if ceiling < asked * _ROUNDING or not (kept.any(axis=0).all() and kept.any(axis=1).all()):
            return []
        disputed = np.flatnonzero(kept.sum(axis=0) > 1)
        if not len(disputed):
            self._consider(kept.argmax(axis=0))
            return []
        split = np.sort(np.where(kept, share, 0.0), axis=0)[-2] * dearest * self.lagrangian.widths_hz
        order = disputed[np.argsort(-split[disputed], kind="stable")]
        floor = max(node.bound_s, self._proven_s(logs, node.allowed))
        best: list[_Node] = []
        best_score = -np.inf
        for at in order[:_CANDIDATES].tolist():
            children = []
            for client in np.flatnonzero(kept[:, at]).tolist():
                child = self._child(node, kept, at, client, logs)
                if child.bound_s < self.target_s:
                    children.append(child)
                else:
                    kept[client, at] = False  # holds for the children of the other candidates too
            if not children:
                return []
            if len(children) == 1:  # settled: go on with what it leaves
                kept, logs = children[0].allowed, children[0].logs
                node, best, best_score = children[0], children, -np.inf
                floor = node.bound_s
                continue
            gains = [max(child.bound_s / floor - 1.0, 1e-9) for child in children]
            score = float(np.log(gains).mean() - np.log(len(children)))
            if score > best_score:
                best, best_score = children, score
        return best

    def _child(self, node: _Node, kept: np.ndarray, subchannel: int, client: int, logs: Floats) -> _Node:
        """Return the node in which a subchannel goes to a client, bounded with little effort."""
        allowed = kept.copy()
        allowed[:, subchannel] = False
        allowed[client, subchannel] = True
        logs = self._prices(allowed, logs, _CHILD_STEPS)
        bound = max(node.bound_s, self._proven_s(logs, allowed))
        return _Node(bound, next(self._number), allowed, logs)

    def _proven_s(self, logs: Floats, allowed: np.ndarray) -> float:
        """Return the bound some prices prove, s."""
        rate = self.lagrangian.split(logs)[0]
        ceiling = self.lagrangian.ceiling(logs, np.inf, allowed)[0]
        return float(earliest_s(rate * self.phase.bits, self.phase.compute_s, ceiling)) * _ROUNDING

    def _needed(self, deadline_s: float) -> Floats:
        left = np.maximum(deadline_s - self.phase.compute_s, 1e-12 * deadline_s)
        return np.asarray(self.phase.bits / left)

    def _prices(self, allowed: np.ndarray, logs: Floats, steps: int) -> Floats:
        """Return prices that bound the assignment allowed well, or well enough to give them up."""
        from scipy.optimize import minimize

        needed = self._needed(self.target_s)

        def stop_if_proven(intermediate_result: Any) -> None:
            if self.lagrangian.excess(intermediate_result.x, np.inf, needed, allowed)[0] < -1e-9:
                raise StopIteration

        with one_blas_thread():
            found = minimize(
                self.lagrangian.excess,
                logs,
                args=(_NORM, needed, allowed),
                jac=True,
                method="L-BFGS-B",
                bounds=[(at - 40.0, at + 40.0) for at in logs],
                callback=stop_if_proven,
                options={"maxiter": steps, "ftol": 1e-9, "gtol": 1e-8},
            )
        self.effort.spend(allowed.size, found.nfev)
        return np.asarray(found.x)

    def _shares(self, logs: Floats, allowed: np.ndarray) -> Floats:
        """Return which part of each subchannel each client would buy, of the shape of ``allowed``."""
        value = np.where(allowed, self.lagrangian.ceiling(logs, np.inf, allowed)[3], 0.0)
        ratio = value / np.maximum(value.max(axis=0), 1e-300)
        with np.errstate(under="ignore"):
            powered = ratio**_NORM
        return np.asarray(powered / np.maximum(powered.sum(axis=0), 1e-300))

    def _try(self, allowed: np.ndarray, share: Floats) -> None:
        """Try the decision in which each subchannel goes to its best buyer."""
        assignment = np.where(allowed, share, -1.0).argmax(axis=0)
        for client in np.flatnonzero(np.bincount(assignment, minlength=len(allowed)) == 0).tolist():
            rich = np.bincount(assignment, minlength=len(allowed))[assignment] > 1
            gains = np.where(rich & allowed[client], self.phase.gains[client], -1.0)
            if gains.max() <= 0.0:
                return
            assignment[int(gains.argmax())] = client
        if self._consider(assignment) and len(self._tried) > 0:
            better, powers = improve(self.phase, self.assignment, max_passes=50)
            if powers.deadline_s < self.powers.deadline_s:
                self.assignment, self.powers = better, powers

    def _consider(self, assignment: Ints) -> bool:
        """Take assignment if they are better than the best known; each is looked at once."""
        key = assignment.astype(np.int16).tobytes()
        if key in self._tried:
            return False
        self._tried.add(key)
        powers = control_power(self.phase, assignment)
        if powers.deadline_s >= self.powers.deadline_s:
            return False
        self.assignment, self.powers = assignment, powers
        return True
