"""A run that was timed: what measures read of a run, without a folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosim.record.folder import Record
from cosim.record.log import SpanLog
from cosim.tensor.clock import TensorClock, Times
from cosim.tensor.lateness import Heard
from cosim.units import Ints

_CONSTANT = ("kind", "name", "actor", "peer", "round", "local_step", "bits", "flop", "task")


@dataclass(frozen=True, eq=False)
class TimedRun(Record):
    """One channel of some that were timed, as measures read a run.

    Attributes
    ----------
    read
        Returns columns of one of its tables.
    """

    read: Callable[[str, Sequence[str] | None], Any]

    def _table(self, name: str, columns: list[str] | None = None) -> Any:
        return self.read(name, columns)


class TimedRuns:
    """Reads runs off the tensor clock, with what was learned in one that was played with values.

    Parameters
    ----------
    clock
        Whose spans they are.
    learned
        A run of the same training; None where no value is computed.
    """

    def __init__(self, clock: TensorClock, learned: Record | None = None) -> None:
        self._spans: SpanLog = clock.played.log.spans
        self._clock, self._learned = clock, learned
        self._columns: dict[str, Any] = {}
        self._metrics = None if learned is None else self._held_out(learned)

    def runs(self, times: Times) -> list[TimedRun]:
        """Return the run of each channel."""
        total_s, ends = times.total_s, self._round_ends(times)
        return [
            TimedRun(
                Path(),
                {
                    "simulated_s": float(total_s[channel]),
                    "timing_only": self._learned is None,
                    "status": "complete",
                },
                self._reader(times, channel, {round_: of[channel] for round_, of in ends.items()}),
            )
            for channel in range(len(total_s))
        ]

    def _round_ends(self, times: Times) -> Mapping[int, Ints]:
        """Return when each round ends, ns: when all that was begun in it or before has."""
        rounds, waited_ns = self._clock.program.round, times.waited_ns
        ends: dict[int, Ints] = {0: np.zeros(times.end_ns.shape[1], dtype=np.int64)}
        latest = ends[0]
        for round_ in np.unique(rounds).tolist() if self._learned is not None else ():
            latest = np.maximum(latest, waited_ns[rounds == round_].max(axis=0))
            ends[round_] = latest
        return ends

    def _reader(
        self, times: Times, channel: int, ends: Mapping[int, int]
    ) -> Callable[[str, Sequence[str] | None], Any]:
        def read(name: str, columns: Sequence[str] | None) -> Any:
            import pyarrow

            if name == "metrics":
                return self._metrics_at(ends, columns)
            own = {
                "start_ns": times.start_ns,
                "end_ns": times.end_ns,
                "energy_j": times.energy_j,
            }
            wanted = (*_CONSTANT, *own) if columns is None else columns
            table = pyarrow.table(
                {one: own[one][:, channel] if one in own else self._constant(one) for one in wanted}
            )
            return table if times.heard is None else _as_heard(table, times.heard, channel)

        return read

    def _constant(self, name: str) -> Any:
        """Return a column of the spans that is the same on all channels."""
        import pyarrow

        if name not in self._columns:
            column = getattr(self._spans, name)
            self._columns[name] = pyarrow.array(column if isinstance(column, list) else np.array(column))
        return self._columns[name]

    def _held_out(self, learned: Record) -> Any:
        """Return the metrics of the ends of rounds."""
        from pyarrow import compute

        rounds = learned.rounds.to_pylist()
        end_ns = {0: 0} | {one["round"]: one["end_ns"] for one in rounds}
        metrics = learned.metrics
        of_end = [
            time == end_ns.get(round_)
            for time, round_ in zip(metrics["time_ns"].to_pylist(), metrics["round"].to_pylist(), strict=True)
        ]
        return metrics.filter(compute.and_(of_end, compute.match_substring_regex(metrics["name"], "eval_")))

    def _metrics_at(self, ends: Mapping[int, int], columns: Sequence[str] | None) -> Any:
        import pyarrow

        from cosim.record.log import MetricLog
        from cosim.record.tables import metrics_table

        if self._metrics is None:
            table = metrics_table(MetricLog())
        else:
            at_ns = [int(ends[round_]) for round_ in self._metrics["round"].to_pylist()]
            place = self._metrics.column_names.index("time_ns")
            table = self._metrics.set_column(place, "time_ns", pyarrow.array(at_ns, pyarrow.int64()))
        return table if columns is None else table.select(list(columns))


def _as_heard(table: Any, heard: Heard, channel: int) -> Any:
    """Return the spans that a channel has, with what servers compute of what was in time."""
    import pyarrow

    if "flop" in table.column_names:
        flop = table["flop"].to_numpy().copy()
        for span, each in heard.flop.items():
            flop[span] = each[channel]
        place = table.column_names.index("flop")
        table = table.set_column(place, "flop", pyarrow.array(flop))
    return table.filter(pyarrow.array(heard.is_there[:, channel]))
