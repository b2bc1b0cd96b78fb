"""Any metric."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.study.measures import Better, Measure

if TYPE_CHECKING:
    from cosim.record.folder import Record

LEARNED = frozenset(
    (
        *("train_loss", "eval_loss", "eval_perplexity", "eval_accuracy"),
        *("coherence", "covariance_error", "dropped_energy"),
    )
)
"""Metrics that hang on learned values."""


class Metric(Measure):
    """The last value of a metric; where several were taken in one round and local step, their mean.

    Not a number where the run has no such metric: not every allocator foresees a delay.

    Attributes
    ----------
    metric
        Its name in ``metrics.parquet``: ``eval_loss``, ``train_loss``, ``gap_to_bound``, ...
    """

    kind: Literal["metric"] = "metric"
    metric: str
    better: ClassVar[Better] = "neither"
    examples: ClassVar = ({"metric": "cut_layer"},)

    @property
    def name(self) -> str:
        return self.metric

    @property
    def learned(self) -> bool:
        return self.metric in LEARNED

    def of(self, record: "Record") -> float:
        from math import fsum

        metrics = record.columns("metrics", ("round", "local_step", "name", "value"))
        rows = [
            (row["round"], row["local_step"], row["value"])
            for row in metrics.to_pylist()
            if row["name"] == self.metric
        ]
        if not rows:
            return float("nan")
        last = max(row[:2] for row in rows)
        values = [value for *moment, value in rows if tuple(moment) == last]
        return fsum(values) / len(values)
