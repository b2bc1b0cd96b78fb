"""Total delay."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.studies.measures import Measure

if TYPE_CHECKING:
    from cosim.record.folder import Record


class TotalS(Measure):
    """Simulated time from the beginning of the training to its end, s."""

    kind: Literal["total_s"] = "total_s"
    unit: ClassVar[str] = "s"
    by_ratio: ClassVar[bool] = True

    @property
    def is_timed(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        return float(record.manifest["simulated_s"])
