"""Time to a loss."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.study.measures import Measure, losses

if TYPE_CHECKING:
    from cosim.record.folder import Record


class TimeToLoss(Measure):
    """Simulated time until the held-out loss is first measured at ``level`` or below, s.

    Not a number where the run ends before that.

    Attributes
    ----------
    level
        The held-out loss to reach.
    """

    kind: Literal["time_to_loss"] = "time_to_loss"
    level: float
    unit: ClassVar[str] = "s"
    examples: ClassVar = ({"level": 3.0},)

    @property
    def name(self) -> str:
        return f"time_to_loss {self.level:g}"

    @property
    def learned(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        return next((time_s for time_s, _, loss in losses(record) if loss <= self.level), float("nan"))
