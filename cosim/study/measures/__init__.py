"""Measures: one number a run is asked for."""

from abc import abstractmethod
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.parts import Part, family
from cosim.words import short

if TYPE_CHECKING:
    from cosim.record.folder import Record

Better = Literal["less", "more", "neither"]


class Measure(Part):
    """One number of a run, read from its folder."""

    unit: ClassVar[str] = ""
    """Its unit, SI; empty where it has none."""

    better: ClassVar[Better] = "less"
    """Which of two values one would rather have."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.kind

    @property
    def learned(self) -> bool:
        """Whether it depends on learned values, which a study of timing alone has not."""
        return False

    @abstractmethod
    def of(self, record: "Record") -> float:
        """Return the number; not a number where the run has none.

        Raises
        ------
        RecordError
            If the run cannot be read, or can have no such number.
        """


def from_text(given: Any) -> Any:
    """Return a measure's settings from its name alone: a kind, or any metric.

    Raises
    ------
    ValueError
        If it is almost the name of a kind.
    """
    if not isinstance(given, str):
        return given
    kinds = family(Measure)
    if given in kinds:
        return {"kind": given}
    almost = get_close_matches(given, kinds, n=1, cutoff=0.8)
    if almost:
        raise ValueError(
            f"there is no measure {short(given)}; did you mean {almost[0]!r}? "
            f'A metric of that name is asked for by {{ kind = "metric", metric = "{given}" }}'
        )
    return {"kind": "metric", "metric": given}


def losses(record: "Record") -> list[tuple[float, int, float]]:
    """Return simulated time, s, round and value of every held-out loss, in the order of time."""
    from pyarrow import compute

    metrics = record.metrics
    chosen = metrics.filter(compute.equal(metrics["name"], "eval_loss"))
    columns = (chosen[name].to_pylist() for name in ("time_ns", "round", "value"))
    return sorted((time_ns / 1e9, round_, value) for time_ns, round_, value in zip(*columns, strict=True))
