"""Any metric."""

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from cosim.scenario.former_names import tell_name
from cosim.studies.measures import Better, MeasureOfTask

if TYPE_CHECKING:
    from cosim.record.folder import Record

LEARNED = frozenset(
    (
        *("train_loss", "eval_loss", "eval_perplexity", "eval_accuracy", "client_eval_loss"),
        *("coherence", "covariance_error", "product_bias"),
        *("dropped_energy", "pair_energy", "effective_pairs"),
        *("handover_kept_energy", "handover_eval_loss"),
    )
)
"""Metrics that depend on learned values."""

HELD_OUT = frozenset(("eval_loss", "eval_perplexity", "eval_accuracy", "client_eval_loss"))
"""Metrics of a round's end on held-out examples."""

FORMER_NAMES = {"keep_ratio": "sparsification_ratio"}
"""What metrics were called before, with what they are called now."""


class Metric(MeasureOfTask):
    """The last value of a metric; where several were taken in one round and local step, as ``across`` says.

    The last round is the one in which it was taken the latest, of several the largest; in no
    round at all, those of one instant are together.

    Not a number where the run has no such metric: not every allocator predicts a delay.

    Attributes
    ----------
    metric
        Its name in ``metrics.parquet``: ``eval_loss``, ``train_loss``, ``gap_to_bound``, ...
    across
        What is taken of several values, those of clients say: their mean, the largest, the
        least, or the standard deviation among them.
    """

    kind: Literal["metric"] = "metric"
    metric: str
    across: Literal["mean", "max", "min", "std"] = "mean"
    better: ClassVar[Better] = "neither"
    examples: ClassVar = ({"metric": "cut_layer"}, {"metric": "client_eval_loss", "across": "max"})

    @field_validator("metric")
    @classmethod
    def _by_its_name_of_today(cls, metric: str) -> str:
        name = FORMER_NAMES.get(metric, metric)
        if name != metric:
            tell_name("measures", metric, name)
        return name

    @property
    def name(self) -> str:
        how = "" if self.across == "mean" else f"_{self.across}"
        return f"{self.metric}{how}{self.of_task}"

    @property
    def learned(self) -> bool:
        return self.metric in LEARNED

    @property
    def is_timed(self) -> bool:
        return self.metric in HELD_OUT

    def of(self, record: "Record") -> float:
        from statistics import fmean, pstdev

        metrics = record.columns("metrics", ("time_ns", "round", "local_step", "task", "name", "value"))
        rows = [row for row in metrics.to_pylist() if row["name"] == self.metric and self.is_of(row["task"])]
        if not rows:
            return float("nan")
        last = _moment(max(rows, key=itemgetter("time_ns", "round", "local_step")))
        values = [row["value"] for row in rows if _moment(row) == last]
        reductions: dict[str, Callable[[list[float]], float]] = {
            "mean": fmean,
            "max": max,
            "min": min,
            "std": pstdev,
        }
        return reductions[self.across](values)


def _moment(row: dict[str, Any]) -> tuple[str, int, int, int]:
    """Return what values of one moment share: the task, and round and step, or else the instant."""
    instant = 0 if row["round"] else row["time_ns"]
    return row["task"], row["round"], row["local_step"], instant
