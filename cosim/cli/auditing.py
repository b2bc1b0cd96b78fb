"""An audit on the command line: the plan, how far it is, and what came of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cosim.audits import PUBLISHED, TOGETHER
from cosim.audits.load import load_audit
from cosim.audits.plan import AuditPlan, plan_audit
from cosim.audits.run_audit import run_audit
from cosim.cli.study_progress import watching_study
from cosim.cli.studying import pilot, tell_diverged, tell_failures
from cosim.errors import ScenarioError
from cosim.report.audit import write_report
from cosim.report.audit.words import left_out_lines, row_told, verdict_lines
from cosim.report.quantities import count
from cosim.studies.results import Results
from cosim.visible import show_line as print  # names may come from anybody


def overview(planned: AuditPlan) -> Iterator[str]:
    """Return what an audit would do and what it cannot, line by line."""
    audit, cases = planned.audit, planned.plan.cases
    num_runs = len(cases) * audit.replications
    last = planned.plan.seed + audit.replications - 1
    seeds = f"seeds {planned.plan.seed} to {last}"
    yield f"{audit.name}: fine, {count(len(cases))} case(s), {count(num_runs)} runs, {seeds}"
    yield f"  base       {audit.base}" + (", no tensor is computed" if audit.timing_only else "")
    yield f"  compared   {', '.join(one.name for one in audit.alternatives)}"
    yield f"  measures   {', '.join(one.name for one in audit.measures)}"
    for turn in planned.turns:
        if turn.name != PUBLISHED:
            yield f"  turned     {turn.name}: {turn.title}"
    for name, why in left_out_lines([one._asdict() for one in planned.left_out]):
        yield f"  not turned {name}: {why}"
    for name, why in left_out_lines([one._asdict() for one in planned.alone]):
        yield f"  by itself  {name}, not in {TOGETHER}: {why}"


def check_audit(file: Path, changes: Sequence[str] | None, seed: int | None) -> Iterator[str]:
    """Return what an audit would do; errors with every fault found, one a line."""
    if changes:
        raise ScenarioError("--set: changes a scenario; write what differs into the audit's own table, set.")
    yield from overview(plan_audit(load_audit([file]), seed))


def carry_out(
    planned: AuditPlan,
    folder: Path,
    workers: int | None,
    store: Path | None,
    keep_values: bool,
    *,
    is_quiet: bool = False,
) -> dict[str, Any]:
    """Carry out an audit: what it would do and how long that takes, how far it is, and what came of it.

    Returns
    -------
    dict
        Its findings.

    Raises
    ------
    FailedRunsError
        If runs failed, after all others were made.
    """
    from cosim.cli.progress import interruptible

    if not is_quiet:
        for line in overview(planned):
            print(line)
        if not folder.exists():  # what is there already would be counted
            for line in pilot(planned.plan, workers):
                print(line)
    with interruptible(folder), watching_study(is_quiet=is_quiet) as watch:
        found = run_audit(planned, folder, workers=workers, store=store, keep_values=keep_values, watch=watch)
    report = ", ".join(path.name for path in write_report(found, folder))
    if not is_quiet:
        _show(found)
        print(f"audit folder: {folder}")
        print(f"report: {report} and audit.json")
    results = Results.open(folder)
    tell_diverged(results)
    tell_failures(results)
    return found


def _show(found: dict[str, Any]) -> None:
    """Print for each measure how far each turn changes the order, then the conclusions."""
    from cosim.report.audit.words import label_of
    from cosim.report.terminal import on_stdout, say, table_of

    console = on_stdout()
    for measure in found["measures"]:
        say(console, f"{found['name']}: {label_of(measure)}, order of alternatives against that as published")
        told = [row_told(row) for row in measure["rows"][1:]]
        table = table_of(*((heading, "left") for heading in told[0]))
        for row in told:
            table.add_row(*row.values())
        console.print(table)
    for line in verdict_lines(found):
        say(console, line)
