"""Measure: the longest transfer."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.studies.measures import Measure

if TYPE_CHECKING:
    from cosim.record.folder import Record


class Longest(Measure):
    """How long the longest transfer of a run was on the air, s."""

    kind: Literal["far_longest"] = "far_longest"
    unit: ClassVar[str] = "s"

    def of(self, record: "Record") -> float:
        """Return the longest time between start and end."""
        rows = record.columns("spans", ("kind", "start_ns", "end_ns")).to_pylist()
        airtimes = [row["end_ns"] - row["start_ns"] for row in rows if row["kind"] == "transfer"]
        return max(airtimes) / 1e9 if airtimes else float("nan")
