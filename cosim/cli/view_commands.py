"""The commands that look at what there is, or write something new: runs, parts, the store."""

from pathlib import Path
from typing import Annotated

import typer

from cosim.cli.options import Figures, Force, Json, Picture, Quiet, RunFolderPath, StoreFolder
from cosim.cli.steps import be_quick, open_run, open_store, say_json, show_summary
from cosim.visible import show_line as print  # names may come from anybody


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
    as_json: Json = False,
) -> None:
    """Show how much the store of learned values holds; check it, or make it smaller."""
    from cosim.cli.housekeeping import holding, housekeeping

    there = open_store(folder)
    told = list(housekeeping(there, verify, prune_mb, prune_days))
    if as_json:
        say_json({**holding(there), "told": told})
        return
    for line in told:
        print(line)


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
    quiet: Quiet = False,
    as_json: Json = False,
    force: Force = False,
) -> None:
    """Say where the time of a run went, and draw its timeline."""
    from cosim.cli.arguments import round_range
    from cosim.cli.views import show_time, time_told, write_views

    record = open_run(folder)
    first_round, last_round = round_range(rounds)
    write_views(record, png, pdf, html, perfetto, first_round, last_round, force=force)
    if as_json:
        say_json(time_told(record))
    if as_json or quiet:
        return
    show_summary(folder)
    show_time(record, first_round, last_round)
    for path in (png, pdf, html, perfetto):
        if path is not None:
            print(f"timeline: {path}")


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Folders of runs.")],
    png: Picture = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="A page; needs no network.")] = None,
    figures: Figures = None,
    quiet: Quiet = False,
    as_json: Json = False,
    force: Force = False,
) -> None:
    """Show runs side by side on one time axis, each against the first."""
    from cosim.cli.views import comparison_told, show_comparison, write_comparison, write_figures

    records = [open_run(folder) for folder in folders]
    write_comparison(records, png, html, force=force)
    written = [] if figures is None else write_figures(records, figures, force=force)
    if as_json:
        say_json(comparison_told(records))
    if as_json or quiet:
        return
    show_comparison(records, [str(folder) for folder in folders])
    for path in (png, html, *written):
        if path is not None:
            print(f"comparison: {path}")


def explain(
    folder: RunFolderPath,
    span: Annotated[int, typer.Argument(metavar="SPAN", help="The number of a span, its id.")],
    as_json: Json = False,
) -> None:
    """Say why a span took as long as it did: the link budget of a transfer, the device of a computation."""
    from cosim.cli.explanation import show
    from cosim.explain import explain as explained
    from cosim.report.terminal import on_stdout

    found = explained(open_run(folder), span)
    if as_json:
        say_json(found)
    else:
        show(found, on_stdout())


def parts(
    name: Annotated[
        str | None, typer.Argument(metavar="[FAMILY]", help="One family only, such as fading or radio.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the parts a scenario can be put together from, with their settings."""
    be_quick()
    from cosim.cli.listing import kinds, listing

    if as_json:
        say_json(kinds(name))
        return
    for line in listing(name):
        print(line)


def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="smollm2-135m, minilm-l6, e2e, banking77, or a .gguf file."),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    force: Force = False,
) -> None:
    """Get a real model or data set, or unpack a GGUF file into a folder that a base can name."""
    from cosim.cli.fetching import fetch as fetched

    for line in fetched(name, folder, force=force):
        print(line)


def new(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="Such as allocator or fading; or scenario.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package, such as my-allocator.")],
    like: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Begin as a copy of this kind; the shortest without it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its folder; NAME without it.", show_default=False)
    ] = None,
) -> None:
    """Write a package with a part of your own, its source, entry point and tests; or a scenario."""
    from cosim.cli.new_part import write_package

    for line in write_package(family, name, like, out or Path(name)):
        print(line)


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


def export(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER ...", help="Runs, or one study.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the tables go.")],
    kind: Annotated[str, typer.Option("--format", metavar="csv|parquet", help="What the files are.")] = "csv",
    trace: Annotated[
        str | None,
        typer.Option(metavar="gain|rate", help="A trace of a run's air instead, which radio.trace replays."),
    ] = None,
    force: Force = False,
) -> None:
    """Write results as tidy tables for other programs: a row for each value, a column for each variable."""
    from cosim.cli.exporting import write_export, write_trace_of

    if trace is not None:
        print(f"export: {write_trace_of(folders, out, trace, kind, force=force)}")
        return
    for path in write_export(folders, out, kind, force=force):
        print(f"export: {path}")


COMMANDS = (store, timeline, compare, explain, parts, fetch, new, schema, export)
"""All of them, in the order of the help."""
