"""A study in, its results out: who makes which run, until enough is known."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

from cosim.cores import cores
from cosim.distribution import own_version, version_of
from cosim.errors import RecordError, ScenarioError
from cosim.graph.store import Store, default_store
from cosim.learning.execution import refuse_without_torch
from cosim.origin import commit
from cosim.record.digests import table_bytes
from cosim.record.folder import Record
from cosim.scenario.load import to_dict
from cosim.studies.engines import Engine
from cosim.studies.engines.processes import Processes
from cosim.studies.execute import RunOutcome, RunRequest, kept, outcome_of
from cosim.studies.folder import StudyFolder
from cosim.studies.plan import Plan, make_plan, run_folder, training_key
from cosim.studies.results import Measured, Results, Status, curves_table, results_table
from cosim.studies.run_queue import Pace, Run, RunQueue
from cosim.studies.settings import Study
from cosim.studies.statistics import LEAST_TO_STOP, Wide, summarise, summary_csv, too_wide
from cosim.studies.timing import Group, Timing
from cosim.tensor import EngineName

_VERSIONS = ("cosim", "torch", "transformers", "peft", "numpy", "scipy", "simpy", "pyarrow")


@dataclass(frozen=True)
class Tally:
    """How far a study is.

    Attributes
    ----------
    num_runs, replications
        Runs and replications of a case planned so far.
    num_kept, num_made, num_failed, num_diverged
        Runs that were there already, were made now, and failed now; trainings that
        diverged among those that are there.
    num_computed
        Works whose value was computed now; where runs share a training, few of them.
    num_workers
        Runs that go on at a time.
    wide
        Cases whose interval is still too wide, after a batch; empty without ``until``.
    latest
        What just ended, None before anything has.
    elapsed_s
        Since the first run began.
    left_s
        What is left of this batch takes about so long; nan before it is known.
    """

    num_runs: int
    replications: int
    num_kept: int = 0
    num_made: int = 0
    num_failed: int = 0
    num_diverged: int = 0
    num_computed: int = 0
    num_workers: int = 0
    wide: tuple[Wide, ...] = ()
    latest: RunOutcome | None = None
    elapsed_s: float = 0.0
    left_s: float = nan


def run_study(
    study: Study | Plan,
    folder: Path | str | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    store: Path | str | None = None,
    keep_values: bool = True,
    seed: int | None = None,
    engine: EngineName | None = None,
    watch: Callable[[Tally], None] = lambda tally: None,
) -> Results:
    """Make every run of a study that is not there yet, and gather what they gave.

    Parameters
    ----------
    study
        A study, or the plan of one.
    folder
        Where it goes, or has begun; ``studies/<name>`` without it. Runs that are
        complete there are not made again.
    workers
        Processes on this machine; as many as it has cores without it. torch's
        threads are divided among them.
    scheduler
        Address of a dask scheduler, whose workers then do it instead.
    store
        Where learned values are kept and looked for; the user's own without it.
    keep_values
        False keeps and recalls none; every run then trains.
    seed
        Another seed for the first replication.
    engine
        Another than the study's: who plays runs, or times them.
    watch
        Told how far it is, after each run.

    Returns
    -------
    Results
        Those of all complete runs; ``manifest["failed"]`` tells which failed, and why,
        and ``manifest["diverged"]`` whose training diverged, and where.

    Raises
    ------
    CosimError
        If the study cannot begin, and then nothing was changed; or there is nobody
        left to make runs, and then what was made is kept.
    """
    plan = study if isinstance(study, Plan) else make_plan(study, seed=seed, yes=True)
    if engine is not None:
        plan = replace(plan, study=plan.study.model_copy(update={"engine": engine}))
    place = StudyFolder.of(Path(folder or default_folder(plan.study)).absolute(), plan)
    values = Path(store or default_store()).absolute() if keep_values and not plan.study.timing_only else None
    if scheduler is None and not plan.study.timing_only:
        refuse_without_torch()
    Timing(plan, place.path).refuse()
    players = _engine(place, workers, scheduler)  # first, as a scheduler may not answer
    with closing(players):
        if values is not None:
            Store(values)  # and so is a store that is none
        with place.held():
            return _StudyRun(plan, place, players, values, watch).to_the_end()


def default_folder(study: Study) -> Path:
    """Return the folder a study has if none is named."""
    return Path("studies") / study.name


def _engine(place: StudyFolder, workers: int | None, scheduler: str | None) -> Engine:
    if scheduler is None:
        return Processes(workers or cores(), place.log)
    if workers is not None:
        raise ScenarioError(
            f"--workers {workers}: is for this machine, and --scheduler {scheduler} has workers of its own; "
            "leave one of them out."
        )
    from cosim.studies.engines.dask import Dask

    return Dask(scheduler)


@dataclass
class _StudyRun:
    """A study under way."""

    plan: Plan
    place: StudyFolder
    engine: Engine
    store: Path | None
    watch: Callable[[Tally], None]
    measured: dict[tuple[int, int], Measured] = field(default_factory=dict)
    failed: dict[tuple[int, int], str] = field(default_factory=dict)
    diverged: dict[tuple[int, int], str] = field(default_factory=dict)
    num_kept: int = 0
    num_computed: int = 0
    began_s: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        self.timing = Timing(self.plan, self.place.path)

    def to_the_end(self) -> Results:
        """Make batches of replications until there are enough, and write what was found."""
        study, place = self.plan.study, self.place
        replications, wide = study.replications, list[Wide]()
        place.begin(self.plan)
        self._mark("running", replications, None)
        try:
            while True:
                self._batch(replications, wide)
                wide = self._too_wide()
                if not wide or replications >= study.max_replications:
                    break
                replications = min(study.max_replications, replications + max(1, replications // 2))
        except BaseException:
            with suppress(Exception):  # a full disk, or anything else: why it stopped is what matters
                self._write(replications, None, "stopped")
            raise
        self._write(replications, not wide if study.target is not None else None, "complete")
        return Results.open(place.path)

    def _batch(self, replications: int, wide: list[Wide]) -> None:
        """Make the runs that are missing to so many replications; what is there already is only measured."""
        plan, missing = self.plan, []
        for number in range(replications):
            for index, case in enumerate(plan.cases):
                if (index, number) in self.measured or (index, number) in self.failed:
                    continue
                folder, scenario = run_folder(self.place.path, case, number), case.replication(number)
                record = kept(folder, scenario, plan.study.timing_only)
                if record is None:
                    missing.append(Run(index, number, training_key(scenario, plan.study.timing_only)))
                else:
                    self._keep(index, number, record)
        self.watch(self._tally(replications, wide, None))
        groups = self.timing.groups(missing, list(self.measured))
        timed = {run for group in groups for run in group.runs}
        self._play([run for run in missing if run not in timed], replications, wide)
        for group in groups:
            self._time(group, replications, wide)

    def _time(self, group: Group, replications: int, wide: list[Wide]) -> None:
        """Time the runs of a group by the tensor clock, and play those that it cannot promise.

        Raises
        ------
        ScenarioError
            If there are any, and all are to be timed.
        """
        left = []
        for outcome in self.timing.time(group):
            if isinstance(outcome, RunOutcome):
                self._take(outcome)
                self.watch(self._tally(replications, wide, outcome))
                continue
            run, why = outcome
            if self.plan.study.engine == "tensor":
                raise ScenarioError(f"{self.plan.study.name}: {self.plan.cases[run.case].name}: {why}")
            left.append(run)
        self._play(left, replications, wide)

    def _play(self, missing: list[Run], replications: int, wide: list[Wide]) -> None:
        """Let the event kernel play runs."""
        if not missing:
            return
        queue, pace = _Requests(missing, self._request), Pace(missing)
        for outcome in self.engine.perform(queue):
            queue.ended(outcome)
            pace.ended(outcome.case, outcome.replication, outcome.wall_s)
            self._take(outcome)
            self.num_computed += outcome.num_computed
            left_s = pace.left_s(max(1, self.engine.num_workers))
            self.watch(self._tally(replications, wide, outcome, left_s))

    def _keep(self, index: int, number: int, record: Record) -> None:
        try:
            outcome = outcome_of(record, index, number, self.plan.study.measures)
        except RecordError as fault:
            outcome = RunOutcome(index, number, reason=str(fault))
        self._take(outcome)
        self.num_kept += not outcome.reason

    def _take(self, outcome: RunOutcome) -> None:
        run = outcome.case, outcome.replication
        if outcome.reason:
            self.failed[run] = outcome.reason
            return
        if outcome.diverged:
            self.diverged[run] = outcome.diverged
        seed = self.plan.seed + outcome.replication
        self.measured[run] = Measured(*run, seed, outcome.values, outcome.losses)

    def _request(self, run: Run) -> RunRequest:
        plan = self.plan
        case = plan.cases[run.case]
        return RunRequest(
            case=run.case,
            replication=run.replication,
            scenario=to_dict(case.replication(run.replication)),
            folder=str(run_folder(self.place.path, case, run.replication)),
            store=None if self.store is None else str(self.store),
            timing_only=plan.study.timing_only,
            measures=[one.model_dump(mode="json") for one in plan.study.measures],
            version=own_version(),
            inputs=dict(case.inputs),
        )

    def _too_wide(self) -> list[Wide]:
        study = self.plan.study
        if study.target is None:
            return []
        return too_wide(
            results_table(self.plan, self.measured.values()),
            study.measures[0].name,
            study.target,
            method=study.interval,
            confidence=study.confidence,
            seed=self.plan.seed,
            least=min(LEAST_TO_STOP, study.max_replications),
        )

    def _write(self, replications: int, tight: bool | None, status: Status) -> None:
        """Write the tables, then the manifest that tells what they are."""
        plan, study = self.plan, self.plan.study
        results = results_table(plan, self.measured.values())
        summary = summarise(
            results,
            baselines={case.name: case.baseline for case in plan.cases},
            diverged=Counter(plan.cases[case].name for case, _ in self.diverged),
            method=study.interval,
            confidence=study.confidence,
            seed=plan.seed,
        )
        contents: dict[str, bytes | memoryview] = {
            "results.parquet": table_bytes(results),
            "curves.parquet": table_bytes(curves_table(plan, self.measured.values())),
            "summary.csv": summary_csv(summary),
        }
        self.place.write(contents, plan, self._entries(replications, tight))
        self._mark(status, replications, tight)

    def _mark(self, status: Status, replications: int, tight: bool | None) -> None:
        self.place.mark(status, self.plan, self._entries(replications, tight))

    def _entries(self, replications: int, tight: bool | None) -> dict[str, Any]:
        return {
            "replications": replications,
            "seeds": [self.plan.seed + number for number in range(replications)],
            "tight": tight,
            "versions": {name: version_of(name) for name in _VERSIONS},
            "commit": commit(),
            "workers": self.engine.num_workers,
            "wall_s": round(monotonic() - self.began_s, 3),
            "runs": {"kept": self.num_kept, "made": len(self.measured) - self.num_kept},
            "works_computed": self.num_computed,
            "engine": self.plan.study.engine,
            "timed": len(self.timing.timed),
            "failed": self._with_reasons(self.failed),
            "diverged": self._with_reasons(self.diverged),
        }

    def _with_reasons(self, runs: Mapping[tuple[int, int], str]) -> list[dict[str, Any]]:
        """Return runs with their reasons, as the manifest lists them."""
        return [
            {
                "case": self.plan.cases[case].name,
                "replication": number,
                "folder": str(run_folder(Path(), self.plan.cases[case], number)),
                "reason": reason,
            }
            for (case, number), reason in sorted(runs.items())
        ]

    def _tally(
        self, replications: int, wide: list[Wide], latest: RunOutcome | None, left_s: float = nan
    ) -> Tally:
        return Tally(
            num_runs=len(self.plan.cases) * replications,
            replications=replications,
            num_kept=self.num_kept,
            num_made=len(self.measured) - self.num_kept,
            num_failed=len(self.failed),
            num_diverged=len(self.diverged),
            num_computed=self.num_computed,
            num_workers=self.engine.num_workers,
            wide=tuple(wide),
            latest=latest,
            elapsed_s=monotonic() - self.began_s,
            left_s=left_s,
        )


class _Requests:
    """The queue of runs as requests, each made when it is taken."""

    def __init__(self, runs: list[Run], make: Callable[[Run], RunRequest]) -> None:
        self.is_single = len(runs) == 1
        self._runs = RunQueue(runs)
        self._make = make
        self._taken: dict[tuple[int, int], Run] = {}

    def take(self) -> RunRequest | None:
        run = self._runs.take()
        if run is None:
            return None
        self._taken[run.case, run.replication] = run
        return self._make(run)

    def ended(self, outcome: RunOutcome) -> None:
        self._runs.ended(self._taken.pop((outcome.case, outcome.replication)))
