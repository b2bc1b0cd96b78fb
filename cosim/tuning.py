"""Tuning a scenario with Optuna: settings by their paths, what is measured as in studies.

::

    import optuna
    from cosim.tuning import objective

    search = {"allocator.kind": ["equal", "time_shared"], "lora.rank": (1, 16)}
    quickest = objective("scenarios/quickstart.toml", search, measure={"kind": "time_to_loss", "level": 2.0})
    study = optuna.create_study(direction="minimize")
    study.optimize(quickest, n_trials=30)
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cosim.graph.store import Store, default_store
from cosim.parts import make
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.studies.measures import Measure

if TYPE_CHECKING:
    from optuna import Trial

Range = tuple[float, float] | tuple[float, float, str] | Sequence[Any]


def objective(
    scenario: Scenario | str | Path,
    search: Mapping[str, Range],
    *,
    measure: str | Mapping[str, Any] = "total_s",
    seeds: Sequence[int] = (),
    timing_only: bool = False,
    store: Store | None = None,
) -> "Callable[[Trial], float]":
    """Return what ``optuna.Study.optimize`` is given: a scenario with settings a trial suggests, measured.

    Parameters
    ----------
    scenario
        A scenario, or its file.
    search
        By the path of a setting a tuple ``(low, high)`` of two numbers, whole ones for a whole setting,
        or ``(low, high, "log")``; or a list of values to choose from.
    measure
        As in a study: its kind, or a table with it. The mean over the seeds is what is returned.
    seeds
        Of the runs of a trial; the scenario's own without any. All trials meet the same air.
    timing_only
        Compute no tensor; the measure must then need none.
    store
        Where learned values are kept, the user's own without it: trials that differ in the channel alone
        train once.

    Raises
    ------
    ScenarioError
        When called, if what a trial suggests is no scenario.
    """
    from optuna import TrialPruned

    base = load(Path(scenario)) if isinstance(scenario, str | Path) else scenario
    asked: Measure = make(Measure, {"kind": measure} if isinstance(measure, str) else dict(measure))  # type: ignore[type-abstract]
    kept = None if timing_only else store or Store(default_store())

    def evaluate(trial: "Trial") -> float:
        changes = {path: _suggested(trial, path, given) for path, given in search.items()}
        values = []
        for seed in seeds or (base.seed,):
            with TemporaryDirectory() as folder:
                changed = change(base, changes, seed, source="search")
                path = run(changed, Path(folder) / "run", timing_only=timing_only, store=kept)
                values.append(asked.of(Record.open(path)))
        mean = sum(values) / len(values)
        if not isfinite(mean):
            raise TrialPruned(f"{asked.name}: a run has no such number")  # such as a loss never reached
        return mean

    return evaluate


def _suggested(trial: "Trial", path: str, given: Range) -> Any:
    """Return what a trial suggests for a setting."""
    if not isinstance(given, tuple):
        return trial.suggest_categorical(path, list(given))
    low, high, *scale = given
    log = scale == ["log"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(path, low, high, log=log)
    return trial.suggest_float(path, low, high, log=log)
