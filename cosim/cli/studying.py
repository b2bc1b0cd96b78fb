"""A study on the command line: the plan, how far it is, and what came of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from cosim.cli.study_progress import seconds, watching_study
from cosim.cli.study_results import show_results
from cosim.cores import cores
from cosim.errors import CosimError, ScenarioError
from cosim.report.quantities import count
from cosim.scenario.build import prepare_tasks
from cosim.scenario.differences import event_switches
from cosim.scenario.prepared import notes_of
from cosim.studies.design import num_points
from cosim.studies.load import load_study
from cosim.studies.measures import Measure
from cosim.studies.pilot import estimate
from cosim.studies.plan import MOST_RUNS, Case, Plan, make_plan
from cosim.studies.ranges import Steps
from cosim.studies.results import Results
from cosim.studies.run_study import Tally, run_study
from cosim.studies.settings import Vary
from cosim.tensor import EngineName
from cosim.visible import show_line as print  # names may come from anybody
from cosim.words import shown

_MOST_VALUES = 8
_MOST_FAILURES = 10
_MOST_UNLIKE = 24
_MOST_SETTINGS = 64  # that a check prepares a case for


class FailedRunsError(CosimError):
    """Some runs of a study failed; the others are in its results."""

    exit_status = 1


def plan_of(file: Path, seed: int | None, yes: bool) -> Plan:
    """Return the plan of a study file.

    Raises
    ------
    ScenarioError
        With every fault of it, one a line.
    """
    return make_plan(load_study(file), seed=seed, yes=yes)


def overview(plan: Plan) -> Iterator[str]:
    """Return what a study would do, line by line."""
    study = plan.study
    num_runs = len(plan.cases) * study.replications
    seeds = f"seed {plan.seed}" if study.replications == 1 else f"seeds {plan.seed} to {_last_seed(plan)}"
    yield f"{study.name}: fine, {count(len(plan.cases))} case(s), {count(num_runs)} runs, {seeds}"
    yield f"  base       {study.base}" + (", no tensor is computed" if study.timing_only else "")
    for number, told in enumerate(_varied(study.vary)):
        yield f"  {'' if number else 'varies':<10} {told}"
    yield from _unlike(plan)
    yield f"  measures   {', '.join(one.name for one in study.measures)}"
    more = f", until {study.until} of {study.measures[0].name}, at most {study.max_replications}"
    yield f"  repeated   {study.replications} times{more if study.until else ''}"
    if study.baseline is not None:
        compared = sum(case.baseline not in (None, case.name) for case in plan.cases)
        by_settings = {} if isinstance(study.baseline, str) else study.baseline
        told = ", ".join(f"{path} = {shown(value)}" for path, value in by_settings.items())
        yield f"  baseline   {told or study.baseline}: {count(compared)} case(s) are compared with it"


def _unlike(plan: Plan) -> Iterator[str]:
    """Return what cases with other kinds kept and lost, and in what they differ that nobody varied."""
    lines = [("changed", str(one)) for one in plan.switches]
    lines += [("changed", f"at {at_s:g} s, {one}") for at_s, one in event_switches(plan.base)]
    lines += [
        ("warning", f"cases differ in what nobody varied: {one}")
        for one in plan.unvaried
        if not one.is_default
    ]
    own = [str(one) for one in plan.unvaried if one.is_default]
    lines += [("unvaried", f"only in some of the kinds, by default: {_some(own)}")] if own else []
    for what, told in lines[:_MOST_UNLIKE]:
        yield f"  {what:<10} {told}"
    if len(lines) > _MOST_UNLIKE:
        yield f"  {'':<10} and {count(len(lines) - _MOST_UNLIKE)} more such lines"


def _varied(vary: Vary) -> Iterator[str]:
    """Return what varies, a line for each setting or for those that vary together."""
    for path, axis in vary.grid.items():
        yield f"{path}: {_some([shown(one) for one in (axis.values() if isinstance(axis, Steps) else axis)])}"
    for path, values in vary.zip.items():
        with_others = (
            f" (with {', '.join(one for one in vary.zip if one != path)})" if len(vary.zip) > 1 else ""
        )
        yield f"{path}: {_some([shown(one) for one in values])}{with_others}"
    if vary.cases:
        paths = dict.fromkeys(path for one in vary.cases for path in one.set)
        yield f"{', '.join(paths)}: {_some([one.name for one in vary.cases])}"
    for sampled, how in ((vary.latin_hypercube, "Latin hypercube"), (vary.sobol, "Sobol design")):
        for path, one in sampled.ranges.items() if sampled else ():
            scale = {"linear": "", "log": ", even in its logarithm", "db": " dB"}[one.scale]
            told = f"{path}: {shown(one.low)} to {shown(one.high)}{scale}"
            yield f"{told}; {how} of {count(sampled.samples)} samples" if sampled else told


def _some(values: list[str]) -> str:
    more = f", and {count(len(values) - _MOST_VALUES)} more" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def check_study(file: Path, changes: list[str] | None, seed: int | None) -> Iterator[str]:
    """Return what a study would do; cases are prepared as runs would be until each setting was among them.

    Raises
    ------
    CosimError
        With every fault found, one a line.
    """
    if changes:
        raise ScenarioError("--set: changes a scenario; write what differs into the study's own table, set.")
    study = load_study(file)
    plan = make_plan(study, seed=seed, yes=num_points(study.vary) <= MOST_RUNS)
    notes: dict[str, None] = {}
    for case in _with_each_setting(plan.cases):
        with _of_case(case, plan):
            notes |= dict.fromkeys(notes_of(prepare_tasks(case.scenario)))
    yield from overview(plan)
    for line in notes:
        yield f"  note       {line}"


def _with_each_setting(cases: Sequence[Case]) -> Iterator[Case]:
    """Return the first case, and each that has a setting which none before it has."""
    seen: set[str] = set()
    for number, case in enumerate(cases):
        new = {f"{path} = {shown(value)}" for path, value in case.settings.items()} - seen
        if new or number == 0:
            yield case
        seen |= new
        if len(seen) > _MOST_SETTINGS:
            return


@contextmanager
def _of_case(case: Case, plan: Plan) -> Iterator[None]:
    """Name the case in its faults."""
    try:
        yield
    except CosimError as fault:
        if len(plan.cases) == 1:
            raise
        raise type(fault)(
            "\n".join(f"case {case.name}: {line}" for line in str(fault).splitlines())
        ) from None


def pilot(plan: Plan, workers: int | None) -> Iterator[str]:
    """Play a pilot and return how long the study would take, line by line."""
    found = estimate(plan, workers or cores())
    if found.num_trainings:
        yield (
            f"  training   {count(found.num_trainings)} training(s) of {seconds(found.training_s)}; "
            f"the other runs recall their values"
        )
    study = plan.study
    most_s = found.total_s * study.max_replications / study.replications
    until = f", up to {seconds(most_s)} for {study.max_replications} replications" if study.until else ""
    yield (
        f"  time       about {seconds(found.total_s)} with {found.num_workers} worker(s){until}, "
        f"by a pilot of {seconds(found.run_s)} a run"
    )


def carry_out(
    plan: Plan,
    folder: Path,
    workers: int | None,
    scheduler: str | None,
    store: Path | None,
    keep_values: bool,
    figures: Path | None = None,
    engine: EngineName | None = None,
    *,
    is_quiet: bool = False,
) -> Results:
    """Carry out a plan, show how far it is, and say what came of it; figures for a paper go to a folder.

    With ``--quiet``, only warnings and errors are shown.

    Raises
    ------
    FailedRunsError
        If runs failed, after all others were made.
    """
    from cosim.cli.progress import interruptible
    from cosim.cli.views import make_folder
    from cosim.report.study import write_paper, write_report

    with interruptible(folder), watching_study(is_quiet=is_quiet) as watch:
        results = run_study(
            plan,
            folder,
            workers=workers,
            scheduler=scheduler,
            store=store,
            keep_values=keep_values,
            engine=engine,
            watch=_warned(watch, plan.study.measures),
        )
    told = [f"study folder: {folder}"]
    if results.table.num_rows:
        if not is_quiet:
            show_results(results)
        page, figure = write_report(folder)
        told.append(f"report: {page} and {figure.name}")
        if figures is not None:
            make_folder(figures)
            told.append(f"figures: {len(write_paper(folder, figures, force=True))} files in {figures}")
    for line in () if is_quiet else told:
        print(line)
    tell_diverged(results)
    tell_failures(results)
    return results


def results_told(folder: Path) -> dict[str, Any]:
    """Return what came of a study, for JSON: the rows of its summary."""
    from cosim.report.study.record import StudyRecord

    record = StudyRecord.open(folder)
    kept = ("name", "status", "replications", "confidence", "tight", "failed", "diverged")
    rows = [{"case": case, "measure": measure, **row} for (case, measure), row in record.summary.items()]
    return {"folder": str(folder), **{one: record.manifest.get(one) for one in kept}, "summary": rows}


def _warned(watch: Callable[[Tally], None], measures: Sequence[Measure]) -> Callable[[Tally], None]:
    """Return ``watch``, which also says once what the first run lacks, and why values are not kept."""
    left, said = [True], set[str]()

    def warned(tally: Tally) -> None:
        if left[0] and tally.latest is not None and tally.latest.values and not tally.latest.diverged:
            left[0] = False
            for one, value in zip(measures, tally.latest.values, strict=True):
                if isnan(value) and one.kind == "metric":
                    print(f"warning: measures: the first run has no metric {one.name!r}.", file=sys.stderr)
        if tally.latest is not None and tally.latest.warning and tally.latest.warning not in said:
            said.add(tally.latest.warning)
            told = tally.latest.warning.replace("the run goes on", "runs go on")
            print(f"warning: {told}", file=sys.stderr)
        watch(tally)

    return warned


def tell_diverged(results: Results) -> None:
    """Warn of trainings that diverged: such runs have been made, and have no number."""
    diverged = results.manifest["diverged"]
    for one in diverged[:_MOST_FAILURES]:
        where = f"{one['case']}, replication {one['replication']}"
        print(f"warning: {where}: {one['reason']}", file=sys.stderr)
    if diverged:
        told = f"{count(len(diverged))} training(s) diverged and are in no mean; summary.csv counts them"
        print(f"warning: {told}.", file=sys.stderr)


def tell_failures(results: Results) -> None:
    """Raise which runs failed, if any did."""
    failed = results.manifest["failed"]
    if not failed:
        return
    lines = [f"{one['case']}, replication {one['replication']}: {one['reason']}" for one in failed]
    if len(lines) > _MOST_FAILURES:
        lines[_MOST_FAILURES:] = [f"and {len(lines) - _MOST_FAILURES} more; manifest.json has all of them"]
    lines.append(
        f"cosim: {count(len(failed))} run(s) failed and are not in the results; "
        "the same command tries them again."
    )
    raise FailedRunsError("\n".join(lines))


def _last_seed(plan: Plan) -> int:
    return plan.seed + plan.study.replications - 1
