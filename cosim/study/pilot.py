"""A pilot: one case played before a study, to say how long all of it will take."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from cosim.run import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.study.plan import Plan, training_key
from cosim.world import Progress


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
    """Play the first case, and train it for a round, in a folder that is thrown away.

    Raises
    ------
    CosimError
        If the case cannot run.
    """
    scenario, timing_only = plan.cases[0].scenario, plan.study.timing_only
    replications = range(plan.study.replications)
    keys = {training_key(case.replication(one), timing_only) for case in plan.cases for one in replications}
    with TemporaryDirectory(prefix="cosim-pilot-") as folder:
        run_s = min(_timing_s(scenario, Path(folder) / str(number)) for number in range(2))
        training_s = 0.0 if timing_only else _training_s(scenario, Path(folder) / "training")
    return Estimate(
        num_runs=len(plan.cases) * len(replications),
        num_trainings=0 if timing_only else len(keys),
        run_s=run_s,
        training_s=training_s,
        num_workers=num_workers,
    )


def _timing_s(scenario: Scenario, folder: Path) -> float:
    begin = perf_counter()
    run(scenario, folder, timing_only=True)
    return perf_counter() - begin


def _training_s(scenario: Scenario, folder: Path) -> float:
    """Return the wall time of a training by that of its first round, and of the evaluation before it."""
    at: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        at[progress.round] = perf_counter()

    begin = perf_counter()
    run(change(scenario, {"scheme.num_rounds": 1}), folder, watch=watch)
    first = at.get(0, begin)
    return first - begin + scenario.scheme.num_rounds * (at[1] - first)
