"""A study on the command line: the plan, how far it is, and what came of it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from cosim.errors import CosimError, ScenarioError
from cosim.report.quantities import count, duration
from cosim.scenario.build import prepare
from cosim.scenario.differences import event_switches
from cosim.study.conduct import Tally, conduct
from cosim.study.design import num_points
from cosim.study.engines.processes import cores
from cosim.study.load import load_study
from cosim.study.measures import Measure
from cosim.study.pilot import estimate
from cosim.study.plan import MOST_RUNS, Plan, make_plan
from cosim.study.ranges import Steps
from cosim.study.results import Results
from cosim.study.settings import Vary
from cosim.units import NS_PER_S
from cosim.visible import show_line as print  # names may come from anybody
from cosim.words import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cosim.report.study.record import StudyRecord

_SAY_EVERY_S = 10.0
_MOST_VALUES = 8
_MOST_CASES = 24
_MOST_FACTORS = 4
_MOST_FAILURES = 10
_MOST_UNLIKE = 24


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
    """Return what a study would do, its first case prepared as a run would be.

    Raises
    ------
    CosimError
        With every fault found, one a line.
    """
    if changes:
        raise ScenarioError("--set: changes a scenario; write what differs into the study's own table, set.")
    study = load_study(file)
    plan = make_plan(study, seed=seed, yes=num_points(study.vary) <= MOST_RUNS)
    prepared = prepare(plan.cases[0].scenario)
    yield from overview(plan)
    for line in prepared.notes:
        yield f"  note       {line}"


def pilot(plan: Plan, workers: int | None) -> Iterator[str]:
    """Play a pilot and return how long the study would take, line by line."""
    found = estimate(plan, workers or cores())
    if found.num_trainings:
        yield (
            f"  training   {count(found.num_trainings)} training(s) of {_seconds(found.training_s)}; "
            f"the other runs recall their values"
        )
    study = plan.study
    most_s = found.total_s * study.max_replications / study.replications
    until = f", up to {_seconds(most_s)} for {study.max_replications} replications" if study.until else ""
    yield (
        f"  time       about {_seconds(found.total_s)} with {found.num_workers} worker(s){until}, "
        f"by a pilot of {_seconds(found.run_s)} a run"
    )


def carry_out(
    plan: Plan,
    folder: Path,
    workers: int | None,
    scheduler: str | None,
    store: Path | None,
    keep_values: bool,
) -> Results:
    """Carry out a plan, show how far it is, and say what came of it.

    Raises
    ------
    FailedRunsError
        If runs failed, after all others were made.
    """
    from cosim.cli.progress import interruptible
    from cosim.report.study import write_report

    with interruptible(folder), _watching() as watch:
        results = conduct(
            plan,
            folder,
            workers=workers,
            scheduler=scheduler,
            store=store,
            keep_values=keep_values,
            watch=_warned(watch, plan.study.measures),
        )
    if results.table.num_rows:
        _show(results)
    print(f"study folder: {folder}")
    if results.table.num_rows:
        page, figure = write_report(folder)
        print(f"report: {page} and {figure.name}")
    _tell_diverged(results)
    _tell_failures(results)
    return results


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


def _tell_diverged(results: Results) -> None:
    """Warn of trainings that diverged: such runs have been made, and have no number."""
    diverged = results.manifest["diverged"]
    for one in diverged[:_MOST_FAILURES]:
        where = f"{one['case']}, replication {one['replication']}"
        print(f"warning: {where}: {one['reason']}", file=sys.stderr)
    if diverged:
        told = f"{count(len(diverged))} training(s) diverged and are in no mean; summary.csv counts them"
        print(f"warning: {told}.", file=sys.stderr)


def _tell_failures(results: Results) -> None:
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


def _show(results: Results) -> None:
    """Print each case's interval of the first measure, and what differs from its baseline."""
    import csv

    from cosim.report.study.record import StudyRecord
    from cosim.report.study.unlike import unvaried_lines
    from cosim.report.terminal import on_stdout, say

    with (results.path / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    manifest = results.manifest
    for one in manifest["measures"]:
        if rows and all(not row["mean"] for row in rows if row["measure"] == one["name"]):
            print(f"warning: measures: no run has a value for {one['name']!r}.", file=sys.stderr)
    first = manifest["measures"][0]
    told = [row for row in rows if row["measure"] == first["name"]]
    console = on_stdout()
    unit = f", {first['unit']}" if first["unit"] else ""
    sure = f"{100 * manifest['confidence']:g} %"
    over = f"{sure} intervals over {manifest['replications']} runs"
    say(console, f"{manifest['name']}: {first['name']}{unit}, {over}")
    record = StudyRecord.open(results.path)
    for line in unvaried_lines(manifest):
        say(console, line)
    if record.is_sampled:
        for line in _ranked(record, first["name"]):
            say(console, line)
    else:
        _show_cases(record, told, console)
    if manifest["tight"] is False:
        asked = f"wider than asked for ({manifest['until']})"
        say(console, f"intervals are still {asked}; max_replications allows no more")


def _show_cases(record: "StudyRecord", told: list[dict[str, str]], console: "Console") -> None:
    """Print a table of the first cases: mean, interval and what differs from the baseline."""
    from cosim.report.terminal import say, table_of

    is_compared = any(row["baseline"] for row in told)
    named = _columns(record)
    table = table_of(
        *((heading, "left") for heading in named),
        *(("mean", "right"), ("interval", "right")),
        *([("against baseline", "right"), ("detectable", "left")] if is_compared else []),
    )
    for row in told[:_MOST_CASES]:
        cells = [levels[row["case"]] for levels in named.values()]
        cells += [_short(row["mean"]), _between(row["low"], row["high"])]
        table.add_row(*cells, *([_change(row), row["detectable"]] if is_compared else []))
    console.print(table)
    if len(told) > _MOST_CASES:
        say(console, f"and {count(len(told) - _MOST_CASES)} more case(s); summary.csv has all of them")


def _columns(record: "StudyRecord") -> dict[str, dict[str, str]]:
    """Return what tells cases apart, heading to entries: levels where these do, else names."""
    factors = record.factors
    levels = [tuple(one.level_labels[one.level[row]] for one in factors) for row in range(len(record.cases))]
    headings = {one.label for one in factors}
    is_told = 0 < len(headings) == len(factors) <= _MOST_FACTORS and len(set(levels)) == len(levels)
    if not is_told:
        return {"case": {name: name for name in record.cases}}
    return {
        one.label: {case: levels[row][at] for row, case in enumerate(record.cases)}
        for at, one in enumerate(factors)
    }


def _ranked(record: "StudyRecord", measure: str) -> Iterator[str]:
    """Return what to say of cases drawn from ranges: from where to where, and which settings it hangs on."""
    from cosim.report.study.findings import findings

    found = findings(record, measure)
    means = sorted(
        (row["mean"], name) for row, name in zip(found["cases"], record.cases, strict=True) if row["n"]
    )
    for which, (mean, name) in (("least", means[0]), ("most", means[-1])) if means else ():
        at = record.cases.index(name)
        settings = ", ".join(f"{one.label} {one.level_labels[one.level[at]]}" for one in record.factors)
        yield f"  {which:<6} {mean:.4g} in {name}: {settings}"
    indices = found["indices"]
    if indices is None:
        yield f"  {found['noIndices']}"
        return
    first, total = indices["first"], indices["total"]
    for at in sorted(range(len(record.factors)), key=lambda one: -total["value"][one]):
        alone, with_others = _share(first, at), _share(total, at)
        yield f"  {record.factors[at].label} makes {alone} of the variance alone, {with_others} with others"
    yield f"  {indices['told']}"


def _share(shares: Mapping[str, Any], at: int) -> str:
    """Return an index and its interval as shares of a hundred."""
    value, low, high = (shares[name][at] for name in ("value", "low", "high"))
    between = "" if low is None or isnan(low) else f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]"
    return f"{100 * value:.0f}{between} %"


def _change(row: dict[str, str]) -> str:
    if not row["relative_difference"]:
        return "" if row["baseline"] else "baseline"
    share, difference = float(row["relative_difference"]), float(row["difference"])
    if not row["difference_low"] or not share:
        return f"{share:+.2%}"
    size = difference / share  # of the baseline's mean
    low, high = float(row["difference_low"]) / size, float(row["difference_high"]) / size
    return f"{share:+.2%} [{low:+.2%}, {high:+.2%}]"


def _short(text: str) -> str:
    return f"{float(text):.4g}" if text else "none"


def _between(low: str, high: str) -> str:
    return f"[{float(low):.4g}, {float(high):.4g}]" if low and not isnan(float(low)) else ""


def _last_seed(plan: Plan) -> int:
    return plan.seed + plan.study.replications - 1


def _seconds(seconds: float) -> str:
    return duration(seconds * NS_PER_S)


@contextmanager
def _watching() -> Iterator[Callable[[Tally], None]]:
    """Show how far a study is on stderr: a table that lives on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.live import Live

    from cosim.report.terminal import PlainConsole

    latest: list[Tally] = []

    def table() -> Any:
        return _table(latest[0]) if latest else "starting"

    with Live(console=PlainConsole(stderr=True), get_renderable=table, refresh_per_second=4):
        yield lambda tally: latest.__setitem__(slice(None), [tally])


def _lines() -> Callable[[Tally], None]:
    said_s = [monotonic() - _SAY_EVERY_S]

    def watch(tally: Tally) -> None:
        is_last = _num_done(tally) == tally.num_runs
        if tally.latest is None or is_last or monotonic() - said_s[0] >= _SAY_EVERY_S:
            said_s[0] = monotonic()
            words = ", ".join(f"{name} {value}" for name, value in _state(tally) if value)
            print(words, file=sys.stderr, flush=True)

    return watch


def _state(tally: Tally) -> Iterator[tuple[str, str]]:
    """Return name and value of what there is to tell of a study under way; a value may be empty."""
    done, made = _num_done(tally), tally.num_made + tally.num_failed
    yield "runs", f"{count(done)}/{count(tally.num_runs)}"
    yield "there before", count(tally.num_kept) if tally.num_kept else ""
    yield "failed", count(tally.num_failed) if tally.num_failed else ""
    yield "diverged", count(tally.num_diverged) if tally.num_diverged else ""
    yield "replications", str(tally.replications)
    yield "still too wide", f"{count(len(tally.wide))} case(s)" if tally.wide else ""
    yield "works computed", count(tally.num_computed) if tally.num_computed else ""
    yield "workers", str(tally.num_workers)
    rate = made / tally.elapsed_s if made and tally.elapsed_s else 0.0
    yield "rate", (f"{rate:.3g} a second" if rate >= 1.0 else f"{60.0 * rate:.3g} a minute") if rate else ""
    yield "elapsed", _seconds(tally.elapsed_s)
    yield "left", f"about {_seconds(tally.left_s)}" if tally.left_s > 0.0 else ""


def _num_done(tally: Tally) -> int:
    return tally.num_kept + tally.num_made + tally.num_failed


def _table(tally: Tally) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("", ProgressBar(total=max(tally.num_runs, 1), completed=_num_done(tally), width=40))
    for name, value in _state(tally):
        if value:
            table.add_row(name, value)
    if tally.latest is not None:
        how = tally.latest.reason or f"took {_seconds(tally.latest.wall_s)}"
        table.add_row("latest", how)
    return table
