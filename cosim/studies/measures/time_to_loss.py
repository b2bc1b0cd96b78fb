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
    interpolated
        Whether the loss is taken to fall in a straight line between two measurements, so that few rounds tell
        apart what reaches it in the same one.
    """

    kind: Literal["time_to_loss"] = "time_to_loss"
    level: float
    interpolated: bool = False
    unit: ClassVar[str] = "s"
    by_ratio: ClassVar[bool] = True
    examples: ClassVar = ({"level": 3.0}, {"level": 3.0, "interpolated": True})

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
        rows = [(at_s, loss) for at_s, _, loss, task in losses(record) if self.is_of(task)]
        reached = next((number for number, (_, loss) in enumerate(rows) if loss <= self.level), None)
        if reached is None:
            return float("nan")
        if not self.interpolated or not reached:
            return rows[reached][0]
        (before_s, above), (after_s, below) = rows[reached - 1 : reached + 1]
        return before_s + (after_s - before_s) * (above - self.level) / (above - below)
