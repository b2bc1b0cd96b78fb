"""The commands. Each imports what it needs when it is called, so that help and checks answer at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cosim.cli.steps import (
    be_quick,
    keeping,
    open_store,
    read_scenario,
    show_summary,
    showing,
    tell_changed,
)
from cosim.visible import show_line as print  # names may come from anybody

app = typer.Typer(
    help="Split federated LoRA training and an OFDMA cell, on one event clock.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, a TOML file.")]
RunFolderPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, such as radio.fading.kind=none."),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", help="Where learned values are kept; the user's cache without it."
    ),
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Recall and keep no learned values.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a picture of who did what when.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Another seed than the scenario's.")]


def command() -> Callable[..., Any]:
    """Return the commands as something to call with arguments."""
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"cosim {metadata.version('cosim')}")
        raise typer.Exit


@app.callback()
def _cosim(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def check(file: ScenarioFile, changes: Changes = None, seed: Seed = None) -> None:
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
    for line in told:  # all of it is known before it is called fine
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
    store: StoreFolder = None,
    no_store: NoStore = False,
) -> None:
    """Run a scenario and record it."""
    from cosim.cli.progress import interruptible, watching
    from cosim.runs import default_folder
    from cosim.runs import run as play

    scenario, switched = read_scenario(file, changes, seed)
    tell_changed(switched)
    folder = out or default_folder(scenario, timing_only=timing_only)
    with (
        showing(folder, show_summary),
        interruptible(folder),
        watching(scenario) as watch,
        keeping(store, no_store or timing_only) as kept,
    ):
        play(scenario, folder, timing_only=timing_only, store=kept, watch=watch)


@app.command()
def resume(folder: RunFolderPath, store: StoreFolder = None, no_store: NoStore = False) -> None:
    """Bring a run that was stopped to its end, with the bytes it would have had."""
    from cosim.cli.progress import interruptible, watching
    from cosim.record.folder import Record
    from cosim.runs import resume as play
    from cosim.runs import scenario_of

    record = Record.open(folder)
    unwanted = no_store or record.manifest["timing_only"]
    with (
        showing(folder, show_summary),
        interruptible(folder),
        watching(scenario_of(record)) as watch,
        keeping(store, unwanted) as kept,
    ):
        play(folder, store=kept, watch=watch)


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
    store: StoreFolder = None,
    no_store: NoStore = False,
) -> None:
    """Play a run again under other conditions, without retraining, and say what changed."""
    from cosim.cli.progress import interruptible, watching
    from cosim.cli.switching import switched
    from cosim.record.folder import Record
    from cosim.report.comparison import compare
    from cosim.report.side_by_side import show
    from cosim.report.terminal import on_stdout
    from cosim.runs import other_scenario, scenario_of, whatif_folder
    from cosim.runs import whatif as play
    from cosim.scenario.load import parse_change

    told = dict(map(parse_change, changes or ()))
    before = Record.open(folder)
    scenario = other_scenario(before, told, at_s)
    tell_changed(switched(scenario, scenario_of(before), told if at_s is None else None))
    after = whatif_folder(before, scenario, out)
    unwanted = no_store or before.manifest["timing_only"]

    def show_comparison(after: Path) -> None:
        asked = told if at_s is None else {"events": None}
        show(compare(before, Record.open(after)), on_stdout(), asked=asked)

    with (
        showing(after, show_comparison),
        interruptible(after),
        watching(scenario) as watch,
        keeping(store, unwanted) as kept,
    ):
        play(folder, told, at_s=at_s, out=out, store=kept, watch=watch)


@app.command()
def calibrate(
    file: ScenarioFile,
    changes: Changes = None,
    ranks: Annotated[str, typer.Option(metavar="R,R,...", help="LoRA ranks to measure.")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the scenario's on.")] = 3,
    rounds: Annotated[int | None, typer.Option(min=2, help="Rounds to train; else the scenario's.")] = None,
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
            calibrate_to(scenario, ranks, seeds, rounds, table, kept, force)


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
    store: StoreFolder = None,
    no_store: NoStore = False,
) -> None:
    """Run a scenario under many conditions, with replications; given again, it goes on where it stopped."""
    from cosim.cli.studying import carry_out, overview, pilot, plan_of
    from cosim.studies.run_study import default_folder

    plan = plan_of(file, seed, yes)
    if dry_run:
        for line in (*overview(plan), *pilot(plan, workers)):
            print(line)
        return
    carry_out(plan, out or default_folder(plan.study), workers, scheduler, store, not no_store)


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
    carry_out(planned, out or default_folder(planned), workers, store, not no_store)


@app.command()
def store(
    folder: StoreFolder = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every value; damaged ones are removed.")
    ] = False,
    prune_mb: Annotated[
        float | None,
        typer.Option(
            "--prune-mb", min=0, metavar="MB", help="Remove what was not used for longest down to this size."
        ),
    ] = None,
    prune_days: Annotated[
        float | None,
        typer.Option(
            "--prune-days", min=0, metavar="DAYS", help="Remove what was not used for so many days."
        ),
    ] = None,
) -> None:
    """Show how much the store of learned values holds; check it, or make it smaller."""
    from cosim.cli.housekeeping import housekeeping

    for line in housekeeping(open_store(folder), verify, prune_mb, prune_days):
        print(line)


@app.command()
def timeline(
    folder: RunFolderPath,
    png: Picture = None,
    pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A column-wide figure for print, with the grants.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A page to zoom and search in; needs no network.")
    ] = None,
    perfetto: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A trace of simulated time for ui.perfetto.dev.")
    ] = None,
    rounds: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Rounds in the picture, such as 3 or 1:4; the first without it."),
    ] = None,
    force: Force = False,
) -> None:
    """Say where the time of a run went, and draw its timeline."""
    from cosim.cli.arguments import round_range
    from cosim.cli.views import show_time, write_views
    from cosim.record.folder import Record

    record = Record.open(folder)
    first_round, last_round = round_range(rounds)
    write_views(record, png, pdf, html, perfetto, first_round, last_round, force=force)
    show_summary(folder)
    show_time(record, first_round, last_round)
    for path in (png, pdf, html, perfetto):
        if path is not None:
            print(f"timeline: {path}")


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Folders of runs.")],
    png: Picture = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="A page; needs no network.")] = None,
    force: Force = False,
) -> None:
    """Show runs side by side on one time axis, each against the first."""
    from cosim.cli.views import show_comparison, write_comparison
    from cosim.record.folder import Record

    records = [Record.open(folder) for folder in folders]
    write_comparison(records, png, html, force=force)
    show_comparison(records, [str(folder) for folder in folders])
    for path in (png, html):
        if path is not None:
            print(f"comparison: {path}")


@app.command()
def explain(
    folder: RunFolderPath,
    span: Annotated[int, typer.Argument(metavar="SPAN", help="The number of a span, its id.")],
) -> None:
    """Say why a span took as long as it did: the link budget of a transfer, the device of a computation."""
    from cosim.cli.explanation import show
    from cosim.explain import explain as explained
    from cosim.record.folder import Record
    from cosim.report.terminal import on_stdout

    show(explained(Record.open(folder), span), on_stdout())


@app.command()
def parts(
    name: Annotated[
        str | None, typer.Argument(metavar="[FAMILY]", help="One family only, such as fading or radio.")
    ] = None,
) -> None:
    """List the parts a scenario can be put together from, with their settings."""
    be_quick()
    from cosim.cli.listing import listing

    for line in listing(name):
        print(line)


@app.command()
def new(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="Such as allocator, fading or aggregator.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package, such as my-allocator.")],
    like: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Begin as a copy of this kind; the shortest without it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its folder; NAME without it.", show_default=False)
    ] = None,
) -> None:
    """Write a package with a part of your own: its source, entry point and tests."""
    from cosim.cli.new_part import write_package

    for line in write_package(family, name, like, out or Path(name)):
        print(line)


@app.command()
def schema(
    study: Annotated[bool, typer.Option("--study", help="Of study files rather than scenarios.")] = False,
) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    be_quick()
    import json

    from cosim.scenario.catalogue import json_schema

    if study:
        from cosim.studies.settings import Study

        described = json_schema(Study, "cosim study")
    else:
        described = json_schema()
    for line in json.dumps(described, indent=2).splitlines():
        print(line)
