"""What the closed form foresaw of a run's rounds, against what the clock measured."""

from dataclasses import dataclass

import numpy as np

from cosim.record.folder import Record
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, length_ns
from cosim.units import NS_PER_S, Floats


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted and measured delay of each round that is over.

    The closed form takes the air as it was at the latest decision before a
    round began; where it does not hold still, the two differ.

    Attributes
    ----------
    rounds
        Their numbers, shape (num_rounds,).
    predicted_s, measured_s
        How long each was to last, and lasted, s, shape (num_rounds,).
    gap_to_bound
        How far the first decision lies above the best possible, as a share of
        it; None where there is no bound.
    """

    rounds: tuple[int, ...]
    predicted_s: Floats
    measured_s: Floats
    gap_to_bound: float | None

    @property
    def errors(self) -> Floats:
        """Measured over predicted, less one, shape (num_rounds,)."""
        return self.measured_s / self.predicted_s - 1.0


def predicted(record: Record, spans: Spans) -> Prediction | None:
    """Return the rounds of a run, predicted and measured; None where nothing was predicted."""
    metrics = record.metrics.to_pydict()
    told = sorted(
        (time_ns, value)
        for time_ns, name, value in zip(metrics["time_ns"], metrics["name"], metrics["value"], strict=True)
        if name == "predicted_round_s" and value > 0.0
    )
    if not told or not len(spans):
        return None
    rounds = Rounds.of(record, length_ns(record, spans))
    latest = np.searchsorted([time_ns for time_ns, _ in told], rounds.start_ns, side="right") - 1
    chosen = rounds.is_over & (latest >= 0)
    if not chosen.any():
        return None
    plan = record.manifest.get("plan") or {}
    return Prediction(
        rounds=tuple(rounds.number[chosen].tolist()),
        predicted_s=np.array([value for _, value in told])[latest[chosen]],
        measured_s=(rounds.end_ns - rounds.start_ns)[chosen] / NS_PER_S,
        gap_to_bound=plan.get("gap_to_bound"),
    )
