"""Time to a loss."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.studies.measures import MeasureOfTask, losses

if TYPE_CHECKING:
    from cosim.record.folder import Record


class TimeToLoss(MeasureOfTask):
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
        return f"time_to_loss {self.level:g}{self.of_task}"

    @property
    def learned(self) -> bool:
        return True

    @property
    def is_timed(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        rows = losses(record)
        return next(
            (at_s for at_s, _, loss, task in rows if self.is_of(task) and loss <= self.level), float("nan")
        )
