"""A pilot: a few cases played before a study, to say how long all of it will take."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from cosim.errors import DivergedError
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.studies.plan import Plan, training_key
from cosim.world import Progress

_MOST_RUNS, _MOST_TRAININGS = 6, 2


@dataclass(frozen=True)
class Estimate:
    """How long a study will take on one machine.

    Attributes
    ----------
    num_runs, num_trainings
        Runs, and how many trainings they most likely share.
    run_s
        Wall time of a run that computes no tensor, or recalls them.
    training_s
        Wall time of a training, beyond that of the run; 0 where nothing is trained.
    num_workers
        How many runs go on at a time.
    """

    num_runs: int
    num_trainings: int
    run_s: float
    training_s: float
    num_workers: int

    @property
    def total_s(self) -> float:
        """Wall time of all of it: trainings side by side, then runs that recall what was learned."""
        trainings_s = ceil(self.num_trainings / self.num_workers) * self.training_s
        return trainings_s + self.num_runs * self.run_s / self.num_workers


def estimate(plan: Plan, num_workers: int) -> Estimate:
    """Play a few cases, evenly chosen, and train some for a round, in a folder that is thrown away.

    Where cases differ in size the mean over the chosen ones is taken for all.

    Raises
    ------
    CosimError
        If one of them cannot run.
    """
    timing_only = plan.study.timing_only
    scenarios = [case.scenario for case in plan.cases]
    replications = range(plan.study.replications)
    keys = {training_key(case.replication(one), timing_only) for case in plan.cases for one in replications}
    trained = {} if timing_only else {training_key(one, timing_only): one for one in scenarios}
    with TemporaryDirectory(prefix="cosim-pilot-") as folder:
        place = Path(folder)
        _timing_s(scenarios[0], place / "warm")  # pays for late imports
        run_s = _mean(
            _timing_s(one, place / f"run-{number}") for number, one in enumerate(_some(scenarios, _MOST_RUNS))
        )
        training_s = _mean(
            _training_s(one, place / f"training-{number}")
            for number, one in enumerate(_some(list(trained.values()), _MOST_TRAININGS))
        )
    return Estimate(
        num_runs=len(plan.cases) * len(replications),
        num_trainings=0 if timing_only else len(keys),
        run_s=run_s,
        training_s=training_s,
        num_workers=num_workers,
    )


def _some(scenarios: list[Scenario], most: int) -> list[Scenario]:
    """Return so many of them at most, evenly chosen, the first and the last among them."""
    if len(scenarios) <= most:
        return scenarios
    return [scenarios[number * (len(scenarios) - 1) // (most - 1)] for number in range(most)]


def _mean(times_s: Iterable[float]) -> float:
    """Return the mean, 0 where there are none."""
    every = list(times_s)
    return sum(every) / len(every) if every else 0.0


def _timing_s(scenario: Scenario, folder: Path) -> float:
    begin = perf_counter()
    run(scenario, folder, timing_only=True)
    return perf_counter() - begin


def _training_s(scenario: Scenario, folder: Path) -> float:
    """Return the wall time of a training by that of its first rounds, and of the evaluations before them."""
    at: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        at[progress.round] = perf_counter()

    rounds = [one.scheme.num_rounds for one in scenario.by_task.values()]
    places = [f"tasks.{name}.scheme" for name, one in scenario.tasks.items() if one.scheme] or ["scheme"]
    begin = perf_counter()
    with suppress(DivergedError):  # takes as long as another, up to there
        run(change(scenario, {f"{place}.num_rounds": 1 for place in places}), folder, watch=watch)
    first = at.get(0, begin)
    # tasks take turns on one computer, so a round of each is what was measured
    return first - begin + sum(rounds) / len(rounds) * (at.get(1, perf_counter()) - first)
