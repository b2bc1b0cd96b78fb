"""A deadline for every round: TSFA without its long run."""

from typing import Any, ClassVar, Literal

from cosim.control.allocators.sparsifying import Curve, KeepRatios, Upload, curves_of
from cosim.control.decision import Allocation
from cosim.control.reports import Report
from cosim.control.solvers.sparsity.deadline import round_by
from cosim.control.state import CellState


class RoundDeadline(KeepRatios):
    """Every round ends by ``latency_limit_s``; within it the band is shared for the least energy left unsent.

    A round in whose channel not even the overheads get through by then ends as
    early as it can.

    Attributes
    ----------
    curve
        What is known of the energy a client leaves unsent, as for ``tsfa``.

    Source
    ------
    Method card 2 (soft_tsfa), section 9.
    """

    kind: Literal["round_deadline"] = "round_deadline"
    curve: Curve = "exact"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"latency_limit_s": 100.0},
        {"latency_limit_s": 100.0, "bandwidth": "subchannels", "curve": "generic"},
    )

    @property
    def reports(self) -> tuple[Report, ...]:
        """What each client would lose by leaving something out this round: it decides when it knows."""
        return (Report("energies", is_awaited=True),)

    def decide(self, state: CellState, upload: Upload) -> Allocation:
        """Return this round's decision."""
        curves, pairs = curves_of(upload, self.curve)
        found = round_by(upload.now, curves, self.latency_limit_s - upload.beside_s)
        return self.decision(state, upload, pairs, found.bits, found.deadline_s)
