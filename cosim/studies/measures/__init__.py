"""Measures: one number a run is asked for."""

from abc import abstractmethod
from collections.abc import Collection
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

    by_ratio: ClassVar[bool] = False
    """Whether values are positive and skewed over seeds, so that two of them are compared by their ratio."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.kind

    @property
    def learned(self) -> bool:
        """Whether it depends on learned values, which a study of timing alone has not."""
        return False

    def misfit(self, tasks: Collection[str]) -> str | None:
        """Return why it cannot be asked of a scenario with these named tasks, with a way out."""
        return None

    @property
    def is_timed(self) -> bool:
        """Whether length, spans without their causes, and held-out losses are all it reads of a run.

        That is what the tensor clock knows.
        """
        return False

    @abstractmethod
    def of(self, record: "Record") -> float:
        """Return the number; not a number where the run has none.

        Raises
        ------
        RecordError
            If the run cannot be read, or can have no such number.
        """


class MeasureOfTask(Measure):
    """One number of a task.

    Attributes
    ----------
    task
        Its name; without one it is of all tasks, so a scenario with several must say it.
    """

    task: str = ""

    @property
    def of_task(self) -> str:
        """The end of its name in results."""
        return f" of {self.task}" if self.task else ""

    def is_of(self, task: str) -> bool:
        """Return whether what was measured of a task counts."""
        return self.task in ("", task)

    def misfit(self, tasks: Collection[str]) -> str | None:
        """Return that it is of none of these tasks, or does not say of which."""
        if self.task in tasks or (not self.task and not tasks):
            return None
        if not tasks:
            return f"is of the task {short(self.task)}, and the scenario names none; leave task out"
        known = ", ".join(map(repr, tasks))
        what = f"there is no task {short(self.task)}" if self.task else "the scenario has several tasks"
        return f"{what}; set its task to one of {known}"


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


def losses(record: "Record") -> list[tuple[float, int, float, str]]:
    """Return simulated time, s, round, value and task of every held-out loss, in the order of time."""
    from pyarrow import compute

    metrics = record.metrics
    chosen = metrics.filter(compute.equal(metrics["name"], "eval_loss"))
    columns = (chosen[name].to_pylist() for name in ("time_ns", "round", "value", "task"))
    rows = zip(*columns, strict=True)
    return sorted((time_ns / 1e9, round_, value, task) for time_ns, round_, value, task in rows)
