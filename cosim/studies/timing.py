"""Runs of a study that the tensor clock times: alike but for radio and allocator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from cosim.control.allocators.equal import Equal
from cosim.errors import CosimError, ScenarioError
from cosim.radio.settings import Radio
from cosim.record.folder import Record
from cosim.scenario.build import prepare
from cosim.scenario.settings import Scenario
from cosim.studies.execute import RunOutcome
from cosim.studies.measures import losses
from cosim.studies.plan import Plan, run_folder
from cosim.studies.run_queue import Run
from cosim.tensor.clock import TensorClock, Times
from cosim.tensor.draws import Air
from cosim.tensor.refusals import reasons, refuse_values
from cosim.tensor.timed import TimedRuns
from cosim.timed_runs import leave_timed

LEAST = 3
"""Runs of one order for which it pays to play that order once more."""

Trained: TypeAlias = tuple[Record, Times]
"""A run that was played with values, and its times by the clock."""

_RADIO, _ALLOCATOR = Radio(), Equal()


class _UntimedError(Exception):
    """These runs cannot be timed after all."""

    def __init__(self, why: str, runs: Sequence[Run]) -> None:
        super().__init__(why)
        self.runs = runs


@dataclass
class Group:
    """Runs whose spans have one order.

    Attributes
    ----------
    stripped
        What they share: the scenario without radio and allocator.
    runs
        Those to be timed.
    leader
        The run that is played with values, where values are computed.
    """

    stripped: Scenario
    runs: list[Run] = field(default_factory=list)
    leader: Run | None = None


class Timing:
    """Who times which runs of a plan.

    Parameters
    ----------
    plan, place
        The study and its folder.

    Attributes
    ----------
    timed
        Runs that were, by case and replication.
    """

    def __init__(self, plan: Plan, place: Path) -> None:
        self._plan, self._place = plan, place
        self.timed: set[tuple[int, int]] = set()

    def refuse(self) -> None:
        """Refuse a study that is to be timed and cannot be.

        Raises
        ------
        ScenarioError
            With the reason, its setting and the case.
        """
        if self._plan.study.engine != "tensor":
            return
        name = self._plan.study.name
        for measure in self._plan.study.measures:
            if not measure.is_timed:
                raise ScenarioError(
                    f"{name}: measures: {measure.name!r} is read off more than times, and the tensor clock "
                    'has no more; leave it out, or take engine = "auto".'
                )
        for case in self._plan.cases:
            for why in reasons(case.scenario):
                raise ScenarioError(
                    f"{name}: engine: {case.name}: {why}, so the tensor clock cannot promise its times; take "
                    'engine = "auto".'
                )

    def groups(self, missing: Sequence[Run], there: Sequence[tuple[int, int]]) -> list[Group]:
        """Return the groups of runs that are timed, none where the event kernel plays all.

        Parameters
        ----------
        missing
            Runs to be made.
        there
            Runs that are complete, by case and replication.
        """
        study = self._plan.study
        if study.engine == "events" or not all(one.is_timed for one in study.measures):
            return []
        groups: dict[int, list[Group]] = {}
        least = 1 if study.engine == "tensor" else LEAST
        for run in missing:
            scenario = self.scenario(run)
            if scenario.record == "spans" and next(reasons(scenario), None) is None:
                self._group(groups, scenario).runs.append(run)
        found = [group for alike in groups.values() for group in alike]
        if not study.timing_only:
            for index, number in sorted(set(there) - self.timed):
                run = Run(index, number, "")
                self._group(groups, self.scenario(run), grows=False).leader = run
            for group in found:
                group.leader = group.leader or group.runs.pop(0)
        return [group for group in found if len(group.runs) >= least]

    def _group(self, groups: dict[int, list[Group]], scenario: Scenario, *, grows: bool = True) -> Group:
        stripped = scenario.model_copy(update={"radio": _RADIO, "allocator": _ALLOCATOR})
        alike = groups.setdefault(scenario.seed, [])
        found = next((one for one in alike if one.stripped == stripped), None)
        if found is None:
            found = Group(stripped)
            if grows:
                alike.append(found)
        return found

    def scenario(self, run: Run) -> Scenario:
        """Return what a run plays."""
        return self._plan.cases[run.case].replication(run.replication)

    def time(self, group: Group) -> Iterator[RunOutcome | tuple[Run, str]]:
        """Yield what came of each run of a group, or why the event kernel must play it.

        Where allocators decide on another cut or rank on some channels, those are a group of their own,
        unless values are computed: theirs is another training.
        """
        try:
            clock, trained, airs, others = self._begin(group)
            yield from self._evaluated(clock, trained, airs)
        except _UntimedError as fault:
            yield from ((run, str(fault)) for run in fault.runs)
            return
        except CosimError as fault:
            yield from ((run, str(fault)) for run in group.runs)
            return
        if trained is None and airs and len(others) >= LEAST:
            yield from self.time(Group(group.stripped, list(others)))
        else:
            yield from others.items()

    def _begin(self, group: Group) -> tuple[TensorClock, Trained | None, dict[Run, Air], dict[Run, str]]:
        """Return the clock of a group, what was trained, the channels, and why other runs have none."""
        leader = group.leader or group.runs[0]
        first, learned, trained = self.scenario(leader), None, None
        prepared = prepare(first)
        if group.leader is None:
            refuse_values(first, prepared.task, prepared.num_blocks)
        else:
            learned = Record.open(run_folder(self._place, self._plan.cases[leader.case], leader.replication))
            if learned.status != "complete":
                raise ScenarioError(f"{learned.path}: the run is {learned.status}.")
        clock, airs, others = TensorClock(first, prepared, learned), dict[Run, Air](), dict[Run, str]()
        if learned is not None:
            trained = self._trained(clock, learned, clock.air(first.radio))
        for run in group.runs:
            scenario = self.scenario(run)
            try:
                airs[run] = clock.air(scenario.radio, scenario)
            except CosimError as fault:
                others[run] = str(fault)
        return clock, trained, airs, others

    def _trained(self, clock: TensorClock, learned: Record, air: Air) -> Trained:
        """Hold the times of the clock against those of the run that was played with values; returns both.

        Raises
        ------
        ScenarioError
            If they differ.
        """
        (times,) = clock.evaluate([air])
        (again,) = TimedRuns(clock, learned).runs(times)
        is_same = again.manifest["simulated_s"] == learned.manifest["simulated_s"]
        if not is_same or losses(again) != losses(learned):
            raise ScenarioError(f"{learned.path}: has other times than without values.")
        return learned, times

    def _evaluated(
        self, clock: TensorClock, trained: Trained | None, airs: dict[Run, Air]
    ) -> Iterator[RunOutcome | tuple[Run, str]]:
        reader, runs, done = TimedRuns(clock, trained and trained[0]), list(airs), 0
        began = perf_counter()
        try:
            for times in clock.evaluate(list(airs.values())):
                if trained is not None:
                    times = times.refuse_others_late(trained[1])
                for channel, record in enumerate(reader.runs(times)):
                    run, done, begins = runs[done], done + 1, began
                    if channel in times.faults:
                        yield run, times.faults[channel]
                        continue
                    outcome = self._outcome(run, record)
                    began = perf_counter()
                    yield replace(outcome, wall_s=began - begins)
        except ScenarioError as fault:
            raise _UntimedError(str(fault), runs[done:]) from None

    def _outcome(self, run: Run, record: Record) -> RunOutcome:
        study, case = self._plan.study, self._plan.cases[run.case]
        values = tuple(measure.of(record) for measure in study.measures)
        learned = () if study.timing_only else tuple(losses(record))
        folder = run_folder(self._place, case, run.replication)
        total_s = record.manifest["simulated_s"]
        if not (folder / "manifest.json").exists():
            leave_timed(self.scenario(run), folder, timing_only=study.timing_only, simulated_s=total_s)
        self.timed.add((run.case, run.replication))
        return RunOutcome(run.case, run.replication, values, learned)
