"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
EngineOption = Annotated[
    Literal["auto", "events", "tensor"] | None,
    typer.Option(help="Play each run, or time those alike but for radio and allocator by the tensor clock."),
]
RunEngine = Annotated[
    Literal["auto", "events", "tensor"],
    typer.Option(help="Play every event, or work out whole rounds, which keeps summaries in place of spans."),
]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a picture of who did what when.")]
Figures = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Write figures (PDF and SVG, a column wide) and LaTeX tables for a paper."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Another seed than the scenario's.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and faults; exit status as ever.")
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout instead of text, and no progress.")
]
