"""Bits sent."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.studies.measures import Measure

if TYPE_CHECKING:
    from cosim.record.folder import Record


class Bits(Measure):
    """Payload of all transfers, bit, once for each however often it was sent; of those of one name if given.

    Attributes
    ----------
    span
        Name of the transfers, such as ``activation_upload``.
    """

    kind: Literal["bits"] = "bits"
    span: str | None = None
    unit: ClassVar[str] = "bit"
    by_ratio: ClassVar[bool] = True
    examples: ClassVar = ({}, {"span": "activation_upload"})

    @property
    def name(self) -> str:
        return "bits" if self.span is None else f"bits of {self.span}"

    @property
    def is_timed(self) -> bool:
        return True

    def of(self, record: "Record") -> float:
        from math import fsum

        from pyarrow import compute

        spans = record.columns("phases" if record.is_short else "spans", ("name", "bits"))
        if self.span is not None:
            spans = spans.filter(compute.equal(spans["name"], self.span))
        return fsum(spans["bits"].to_numpy())
