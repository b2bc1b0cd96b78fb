"""The commands. Each imports what it needs when it is called, so that help and checks answer at once."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer

from cosim.cli.flower_command import flower
from cosim.cli.options import (
    Changes,
    EngineOption,
    Figures,
    Force,
    Json,
    NoStore,
    Quiet,
    RunEngine,
    RunFolderPath,
    ScenarioFile,
    Seed,
    StoreFolder,
)
from cosim.cli.steps import (
    be_quick,
    keeping,
    open_run,
    read_scenario,
    say_json,
    show_summary,
    showing,
    tell_changed,
)
from cosim.cli.view_commands import COMMANDS
from cosim.visible import show_line as print  # names may come from anybody

app = typer.Typer(
    help="Split federated LoRA training and an OFDMA cell, on one event clock.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def command(name: str = "") -> Callable[..., Any]:
    """Return the commands as something to call with arguments; the one of a name alone where there is one."""
    asked = copy(app)
    asked.registered_commands = [
        one for one in app.registered_commands if one.callback is not None and one.callback.__name__ == name
    ] or app.registered_commands
    return typer.main.get_command(asked)


def _show_version(wanted: bool) -> None:
    if wanted:
        from cosim.distribution import own_version

        print(f"cosim {own_version()}")
        raise typer.Exit


@app.callback()
def _cosim(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def check(
    file: ScenarioFile,
    changes: Changes = None,
    seed: Seed = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture of who holds what; a .png or .pdf.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what a scenario or a study would run, or all that is wrong with it."""
    be_quick()
    from cosim.audits import is_audit
    from cosim.cli.overview import overview
    from cosim.scenario.load import read_toml
    from cosim.studies import is_study

    given = read_toml(file)
    if is_audit(given):
        from cosim.cli.auditing import check_audit

        told = list(check_audit(file, changes, seed))
    elif is_study(given):
        from cosim.cli.studying import check_study

        told = list(check_study(file, changes, seed))
    else:
        scenario, switched = read_scenario(file, changes, seed)
        told = list(overview(scenario, switched))
        if png is not None:
            from cosim.cli.holdings import write_holdings
            from cosim.scenario.build import prepare_tasks

            write_holdings([one.task for one in prepare_tasks(scenario)], png, force=force)
            told.append(f"who holds what: {png}")
    if as_json:
        say_json({"fine": True, "told": [line.split(maxsplit=1) for line in told[1:]], "title": told[0]})
    for line in () if as_json or quiet else told:  # all of it is known before it is called fine
        print(line)


@app.command()
def run(
    file: ScenarioFile,
    changes: Changes = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run folder; runs/NAME/HASH without it.", show_default=False),
    ] = None,
    timing_only: Annotated[
        bool, typer.Option("--timing-only", help="Compute no tensor: times, amounts and grants only.")
    ] = False,
    engine: RunEngine = "auto",
    store: StoreFolder = None,
    no_store: NoStore = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a scenario and record it."""
    from cosim.cli.progress import interruptible, watching
    from cosim.cli.views import summary_told
    from cosim.runs import default_folder
    from cosim.runs import run as play

    scenario, switched = read_scenario(file, changes, seed)
    tell_changed(switched)
    folder = out or default_folder(scenario, timing_only=timing_only)
    with (
        showing(folder, show_summary, summary_told, quiet=quiet, as_json=as_json),
        interruptible(folder),
        watching(scenario, is_quiet=quiet or as_json) as watch,
        keeping(store, no_store or timing_only) as kept,
    ):
        how = {"store": kept, "watch": watch.round_over, "within": watch.within}
        play(scenario, folder, timing_only=timing_only, engine=engine, **how)


@app.command()
def resume(
    folder: RunFolderPath,
    store: StoreFolder = None,
    no_store: NoStore = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring a run that was stopped to its end, with the bytes it would have had."""
    from cosim.cli.progress import interruptible, watching
    from cosim.cli.views import summary_told
    from cosim.record.folder import Record
    from cosim.runs import resume as play
    from cosim.runs import scenario_of

    record = Record.open(folder, is_for_replay=True)
    unwanted = no_store or record.manifest["timing_only"]
    with (
        showing(folder, show_summary, summary_told, quiet=quiet, as_json=as_json),
        interruptible(folder),
        watching(scenario_of(record), is_quiet=quiet or as_json) as watch,
        keeping(store, unwanted) as kept,
    ):
        play(folder, store=kept, watch=watch.round_over, within=watch.within)


@app.command()
def whatif(
    folder: RunFolderPath,
    changes: Changes = None,
    at_s: Annotated[
        float | None,
        typer.Option("--at", metavar="SECONDS", help="Change it at this instant, not from the beginning."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The new run's folder; runs/NAME/HASH without it.", show_default=False
        ),
    ] = None,
    engine: EngineOption = None,
    store: StoreFolder = None,
    no_store: NoStore = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Play a run again under other conditions, without retraining, and say what changed."""
    from cosim.cli.progress import interruptible, watching
    from cosim.cli.switching import switched
    from cosim.cli.views import comparison_told
    from cosim.record.folder import Record
    from cosim.report.comparison import compare
    from cosim.report.side_by_side import show
    from cosim.report.terminal import on_stdout
    from cosim.runs import scenario_of
    from cosim.scenario.load import parse_change
    from cosim.whatifs import other_scenario, whatif_folder
    from cosim.whatifs import whatif as play

    told = dict(map(parse_change, changes or ()))
    before = open_run(folder)
    scenario = other_scenario(before, told, at_s)
    tell_changed(switched(scenario, scenario_of(before), told if at_s is None else None))
    after = whatif_folder(before, scenario, out)
    unwanted = no_store or before.manifest["timing_only"]
    if engine == "tensor":

        def lengths_s(after: Path) -> dict[str, float]:
            runs = {"before": before, "after": Record.open(after)}
            return {name: run.manifest["simulated_s"] for name, run in runs.items()}

        def show_lengths(after: Path) -> None:
            was_s, is_s = lengths_s(after).values()
            print(f"simulated time: {was_s:.9g} s before, {is_s:.9g} s by the tensor clock")

        def lengths_told(after: Path) -> Any:
            return {"simulated_s": lengths_s(after)}

        with showing(after, show_lengths, lengths_told, quiet=quiet, as_json=as_json):
            play(folder, told, at_s=at_s, out=out, engine=engine)
        return

    def show_comparison(after: Path) -> None:
        asked = told if at_s is None else {"events": None}
        show(compare(before, open_run(after)), on_stdout(), asked=asked)

    def told_of(after: Path) -> Any:
        return comparison_told([before, open_run(after)])

    with (
        showing(after, show_comparison, told_of, quiet=quiet, as_json=as_json),
        interruptible(after),
        watching(scenario, is_quiet=quiet or as_json) as watch,
        keeping(store, unwanted) as kept,
    ):
        how = {"store": kept, "watch": watch.round_over, "within": watch.within}
        play(folder, told, at_s=at_s, out=out, **how)


@app.command()
def calibrate(
    file: ScenarioFile,
    changes: Changes = None,
    ranks: Annotated[str, typer.Option(metavar="R,R,...", help="LoRA ranks to measure.")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the scenario's on.")] = 3,
    rounds: Annotated[int | None, typer.Option(min=2, help="Rounds to train; else the scenario's.")] = None,
    stop_early: Annotated[
        bool, typer.Option("--stop-early", help="Train a rank only until it is at the target.")
    ] = False,
    draws: Annotated[
        int, typer.Option(min=0, help="Channels to choose a rank for; 0: the one before fading.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The table; beside the scenario, NAME_rounds.json or _rank.json."),
    ] = None,
    store: StoreFolder = None,
    no_store: NoStore = False,
    force: Force = False,
) -> None:
    """Measure how many rounds each LoRA rank needs, by training; an allocator reads the table.

    Where an allocator keeps a limit on latency by leaving out rank pairs, such as tsfa, short pilots measure
    instead what each rank would cost, and the best one is named.
    """
    from cosim.cli.calibration import calibrate_to, choose_rank_to

    scenario, switched = read_scenario(file, changes, None)
    tell_changed(switched)
    with keeping(store, no_store) as kept:
        if scenario.allocator.sets_sparsification_ratios:
            table = out or file.with_name(f"{file.stem}_rank.json")
            choose_rank_to(scenario, ranks, seeds, rounds, draws, table, kept, force)
        else:
            table = out or file.with_name(f"{file.stem}_rounds.json")
            calibrate_to(scenario, ranks, seeds, rounds, stop_early, table, kept, force)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study, a TOML file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where it goes, or goes on; studies/NAME without it.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; as many as it has cores without it.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on a cluster, such as tcp://login:8786 (dask)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do, and how long that takes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Any number of runs is meant.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed for the first replication.")] = None,
    engine: EngineOption = None,
    figures: Figures = None,
    store: StoreFolder = None,
    no_store: NoStore = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a scenario under many conditions, with replications; given again, it goes on where it stopped."""
    from cosim.cli.studying import carry_out, overview, pilot, plan_of, results_told
    from cosim.studies.run_study import default_folder

    plan = plan_of(file, seed, yes)
    if dry_run:
        for line in (*overview(plan), *pilot(plan, workers)):
            print(line)
        return
    folder = out or default_folder(plan.study)
    silent = quiet or as_json
    carry_out(plan, folder, workers, scheduler, store, not no_store, figures, engine, is_quiet=silent)
    if as_json:
        say_json(results_told(folder))


@app.command()
def audit(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE [FILE ...]", help="An audit, or scenarios to compare.")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="PATH=VALUE", help="One more alternative: the first scenario so."),
    ] = None,
    proposed: Annotated[
        str | None, typer.Option(metavar="NAME", help="The alternative that is claimed to be ahead.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where it goes, or goes on; audits/NAME without it.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; as many as it has cores without it.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few seeds, and training: what the file's table quick says.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do, and how long that takes.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed for the first replication.")] = None,
    store: StoreFolder = None,
    no_store: NoStore = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn the assumptions of a comparison one by one, and say which of them its conclusion depends on."""
    from cosim.audits.load import load_audit
    from cosim.audits.plan import plan_audit
    from cosim.audits.run_audit import default_folder
    from cosim.cli.auditing import carry_out, overview
    from cosim.cli.studying import pilot

    asked = load_audit(files, against or (), proposed)
    planned = plan_audit(asked.quickly() if quick else asked, seed)
    if dry_run:
        for line in (*overview(planned), *pilot(planned.plan, workers)):
            print(line)
        return
    folder, silent = out or default_folder(planned), quiet or as_json
    found = carry_out(planned, folder, workers, store, not no_store, is_quiet=silent)
    if as_json:
        say_json(found)


for _command in (*COMMANDS, flower):
    app.command()(_command)
