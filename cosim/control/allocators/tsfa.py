"""TSFA, second stage: ends, bandwidths and sparsification ratios under a long-term latency limit."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.control.allocators.sparsifying import Curve, KeepRatios, Upload, curves_of
from cosim.control.decision import Allocation
from cosim.control.reports import Report
from cosim.control.solvers.sparsity.alternating import alternate
from cosim.control.solvers.sparsity.deadline import best_round, next_queue_s
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.state import CellState
from cosim.parts import LONGEST_S

_LEAST_SLOPE = 1e-6  # of the whole energy per limit: a limit that hardly binds


class Tsfa(KeepRatios):
    """Rounds that last ``latency_limit_s`` on average, longer where the channel is worth it.

    A virtual queue counts the seconds rounds ran over the limit. Each round
    minimises ``penalty_weight`` times the energy left unsent, as a share, plus the
    queue times the latency. The queue before the first round is what the mean of all
    latencies may lie above the limit by, over the number of rounds; with it at its
    balance under the channel before fading there is nothing to be caught up.

    Attributes
    ----------
    penalty_weight
        Weight of the unsent energy, s; without it, such that the balanced queue is as long as the limit.
    relative_to
        What the unsent energy is a share of. ``this_round``: of all there is to send now.
        ``first_round``: of what there was then; as learning goes on there is less, so the
        queue falls below one limit and rounds become by turns nearly empty and nearly dense.
    warm_start
        Begin with the balanced queue; without it, with none.
    max_round_s
        Latest end of a round, s; without it, when everything can be sent.
    solver
        ``joint`` searches end and bandwidths together; ``alternating`` by turns, which stalls.
    curve
        What is known of the energy a client leaves unsent: of each pair ``exact``,
        an ``exponential`` of two numbers, or its sum only (``generic``: a straight
        line, for which the best rounds are all or nothing). Where nothing is computed
        every client has the same straight line.

    Source
    ------
    arXiv 2505.00333, second stage of TSFA; as in method card 2, section 8. The
    paper's own solver could not be seen; ``alternating`` is its likely shape. Section
    8.3 normalises by the first round; ``this_round`` is ours.
    """

    kind: Literal["tsfa"] = "tsfa"
    penalty_weight: float | None = Field(default=None, gt=0.0)
    relative_to: Literal["this_round", "first_round"] = "this_round"
    warm_start: bool = True
    max_round_s: float | None = Field(default=None, gt=0.0, le=LONGEST_S)
    solver: Literal["joint", "alternating"] = "joint"
    curve: Curve = "exact"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"latency_limit_s": 100.0},
        {"latency_limit_s": 100.0, "bandwidth": "subchannels", "curve": "exponential"},
        {"latency_limit_s": 100.0, "solver": "alternating", "warm_start": False, "penalty_weight": 50.0},
        {"latency_limit_s": 100.0, "relative_to": "first_round"},
        {"latency_limit_s": 100.0, "curve": "generic", "max_round_s": 300.0},
    )

    @model_validator(mode="after")
    def _latest_end_is_after_the_limit(self) -> Self:
        if self.max_round_s is not None and self.max_round_s < self.latency_limit_s:
            raise ValueError(
                f"max_round_s {self.max_round_s:g} is below latency_limit_s {self.latency_limit_s:g}; "
                "raise it, or lower the limit"
            )
        return self

    @property
    def reports(self) -> tuple[Report, ...]:
        """What each client would lose by leaving something out this round: it decides when it knows."""
        return (Report("energies", is_awaited=True),)

    def decide(self, state: CellState, upload: Upload) -> Allocation:
        """Return this round's decision; the memory carries the queue, the weight and the energy of one."""
        scale = state.memory.get("energy_scale", 0.0) if self.relative_to == "first_round" else 0.0
        if not scale > 0.0 and upload.sparsity.energies is not None:
            whole = [float(one.sum()) for one in upload.sparsity.energies]
            scale = float(np.dot(upload.weights, whole))
        curves, pairs = curves_of(upload, self.curve, scale if scale > 0.0 else 1.0)
        if "queue_s" in state.memory:
            weight, queue_s = state.memory["penalty_weight"], state.memory["queue_s"]
            if state.last_round_s is not None:
                queue_s = next_queue_s(queue_s, state.last_round_s, self.latency_limit_s)
        else:
            empty_s = float(upload.average.earliest_s(upload.average.overhead_bits))
            limit_s = max(self.latency_limit_s - upload.beside_s, empty_s, 1e-9)
            slope = -float(share_band(upload.average, curves, np.array([limit_s])).slope_per_s[0])
            balance = max(slope, _LEAST_SLOPE / limit_s)
            weight = self.latency_limit_s / balance if self.penalty_weight is None else self.penalty_weight
            queue_s = weight * slope if self.warm_start else 0.0
        latest_s = np.inf if self.max_round_s is None else self.max_round_s - upload.beside_s
        if self.solver == "joint":
            found = best_round(upload.now, curves, weight=weight, queue_s=queue_s, max_s=latest_s)
        else:
            found, _ = alternate(upload.now, curves, weight=weight, queue_s=queue_s, max_s=latest_s)
        memory = {"queue_s": queue_s, "penalty_weight": weight, "energy_scale": scale}
        return self.decision(state, upload, pairs, found.bits, found.deadline_s, memory=memory)
