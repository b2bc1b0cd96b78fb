"""Loss at a time."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cosim.studies.measures import MeasureOfTask, losses

if TYPE_CHECKING:
    from cosim.record.folder import Record


class LossAt(MeasureOfTask):
    """The latest held-out loss measured by an instant; a run that has ended keeps its last.

    Attributes
    ----------
    time_s
        Simulated time, s.
    """

    kind: Literal["loss_at"] = "loss_at"
    time_s: float = Field(ge=0.0)
    examples: ClassVar = ({"time_s": 1.0},)

    @property
    def name(self) -> str:
        return f"loss_at {self.time_s:g} s{self.of_task}"

    @property
    def learned(self) -> bool:
        return True

    @property
    def is_timed(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        known = [loss for at_s, _, loss, task in losses(record) if self.is_of(task) and at_s <= self.time_s]
        return known[-1] if known else float("nan")
