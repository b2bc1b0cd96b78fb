"""What was learned, task by task: what was measured over time, and when a held-out loss was reached."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10

import numpy as np

from cosim.record.folder import Record
from cosim.units import Floats, Ints

_STEPS = (1.0, 2.0, 2.5, 5.0)
_MOST_LEVELS = 6

Evaluations = list[tuple[int, int, float]]
"""Time, ns, round and held-out loss of each evaluation."""


@dataclass(frozen=True)
class LossLevel:
    """The first evaluation of a task at or below a held-out loss."""

    loss: float
    time_ns: int
    round: int
    task: str = ""

    @property
    def label(self) -> str:
        """What was reached."""
        return of_task(f"held-out loss {self.loss:g}", self.task)


@dataclass(frozen=True)
class Learning:
    """How the held-out loss of a task went; ``figure`` is the last perplexity or accuracy, with its name.

    A loss that is not finite is among the first and the last; ``best`` is None where all are.
    ``not_finite`` counts them. ``clients`` has each client's last held-out loss where they are
    evaluated by themselves. ``task`` is empty where there is one without a name.
    """

    first_loss: float
    last_loss: float
    best: LossLevel | None
    levels: tuple[LossLevel, ...]
    figure: tuple[str, float] | None
    not_finite: int = 0
    clients: Mapping[str, float] = field(default_factory=dict)
    task: str = ""


def of_task(what: str, task: str) -> str:
    """Return what something is called that is of a task.

    Examples
    --------
    >>> of_task("held-out loss", ""), of_task("held-out loss", "speech")
    ('held-out loss', 'held-out loss of speech')
    """
    return f"{what} of {task}" if task else what


def loss_levels(first: float, best: float) -> tuple[float, ...]:
    """Return round numbers from below ``first`` down to ``best``: three to six of them.

    They depend on the step alone, so two runs that fall about as far share them.

    Examples
    --------
    >>> loss_levels(4.03, 1.57)
    (4.0, 3.5, 3.0, 2.5, 2.0)
    >>> loss_levels(1.0, 1.0)
    ()
    """
    fall = first - best
    if not 0.0 < fall < float("inf"):
        return ()
    scale = 10.0 ** floor(log10(fall / _MOST_LEVELS))
    step = next(
        step * factor
        for factor in (scale, 10 * scale)
        for step in _STEPS
        if step * factor * _MOST_LEVELS >= fall
    )
    highest = ceil(first / step) - 1  # below the first loss: it is there from the start
    levels = (float(f"{number * step:.12g}") for number in range(highest, ceil(best / step) - 1, -1))
    return tuple(level for level in levels if best <= level < first)


def measured(
    record: Record, names: Iterable[str], *, is_finite: bool = False
) -> dict[tuple[str, str], tuple[Ints, Floats]]:
    """Return metrics over time by name and task: instants, ns, and the mean of what was measured then.

    Parameters
    ----------
    is_finite
        Whether to leave out values that are not finite.
    """
    metrics = record.columns("metrics", ("time_ns", "name", "value", "task"))
    all_names, tasks = (np.array(metrics[one].to_pylist(), dtype=np.str_) for one in ("name", "task"))
    times, values = metrics["time_ns"].to_numpy(), metrics["value"].to_numpy()
    found = {}
    for name in names:
        mine = (all_names == name) & (np.isfinite(values) if is_finite else True)
        for task in dict.fromkeys(tasks[mine].tolist()):
            chosen = mine & (tasks == task)
            instants, which = np.unique(times[chosen], return_inverse=True)
            means = np.bincount(which, weights=values[chosen]) / np.bincount(which)
            found[name, task] = (instants, means)
    return found


def held_out_losses(record: Record) -> dict[str, Evaluations]:
    """Return every evaluation that has a finite loss, by task and in order of time."""
    found = {
        task: [one for one in rows if np.isfinite(one[2])] for task, rows in _evaluations(record).items()
    }
    return {task: rows for task, rows in found.items() if rows}


def reached(losses: Sequence[tuple[int, int, float]], level: float, task: str = "") -> LossLevel:
    """Return the first evaluation at or below a loss; there must be one."""
    time_ns, round_ = next((time_ns, round_) for time_ns, round_, loss in losses if loss <= level)
    return LossLevel(level, time_ns, round_, task)


def learned(record: Record) -> Iterator[Learning]:
    """Yield how each task went, those with an evaluation."""
    metrics = record.metrics.to_pydict()
    finite = held_out_losses(record)
    for task, evaluations in _evaluations(record).items():
        losses = finite.get(task, [])
        best = min((loss for *_, loss in losses), default=None)
        figures = [
            (name, value)
            for name, value, whose in zip(metrics["name"], metrics["value"], metrics["task"], strict=True)
            if whose == task and name in ("eval_perplexity", "eval_accuracy")
        ]
        yield Learning(
            first_loss=evaluations[0][2],
            last_loss=evaluations[-1][2],
            best=None if best is None else reached(losses, best),
            levels=()
            if best is None
            else tuple(reached(losses, level) for level in loss_levels(losses[0][2], best)),
            figure=(figures[-1][0].removeprefix("eval_"), figures[-1][1]) if figures else None,
            not_finite=len(evaluations) - len(losses),
            clients={
                actor: value  # the last of each
                for actor, name, value, whose in zip(
                    *(metrics[key] for key in ("actor", "name", "value", "task")), strict=True
                )
                if name == "client_eval_loss" and whose == task
            },
            task=task,
        )


def _evaluations(record: Record) -> dict[str, Evaluations]:
    metrics = record.metrics.to_pydict()
    columns = (metrics[key] for key in ("time_ns", "round", "name", "value", "task"))
    found: dict[str, Evaluations] = {}
    for time_ns, round_, name, value, task in sorted(zip(*columns, strict=True)):
        if name == "eval_loss":
            found.setdefault(task, []).append((time_ns, round_, value))
    return dict(sorted(found.items()))
