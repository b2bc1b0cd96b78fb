"""The command that runs a Flower application; Flower is imported when it is called."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from cosim.cli.options import Changes, Json, Quiet, ScenarioFile, Seed
from cosim.cli.steps import read_scenario, show_summary, showing, tell_changed
from cosim.cli.streams import TRACEBACK
from cosim.errors import CosimError, ScenarioError


def flower(
    file: ScenarioFile,
    directory: Annotated[
        Path, typer.Argument(metavar="APP", help="A Flower application: the folder of its pyproject.toml.")
    ],
    changes: Changes = None,
    seed: Seed = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--run-config", metavar="KEY=VALUE", help="Change a setting of the application."),
    ] = None,
    seconds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE=SECONDS",
            help="What a message takes a client, such as train=2.5; without it, the FLOP that torch counts.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run folder; runs/NAME/HASH without it.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a Flower application over the air of a scenario and record it."""
    from cosim.cli.progress import interruptible
    from cosim.cli.views import summary_told
    from cosim.runs import default_folder

    if find_spec("flwr") is None:
        raise CosimError("cosim flower: Flower is not installed; pip install 'cosim-fl[flower]'")
    scenario, switched = read_scenario(file, changes, seed)
    tell_changed(switched)
    folder = out or default_folder(scenario, timing_only=False)
    taken = _seconds(seconds or ())
    with (
        showing(folder, show_summary, summary_told, quiet=quiet, as_json=as_json),
        interruptible(folder),
    ):
        _play(scenario, directory, folder, taken, _pairs("--run-config", config or ()))


def _play(
    scenario: Any, directory: Path, folder: Path, seconds: dict[str, float] | None, config: dict[str, Any]
) -> None:
    from cosim.flower import run_directory

    try:
        run_directory(scenario, directory, out=folder, seconds=seconds, run_config=config)
    except CosimError:
        raise
    except Exception as fault:  # whatever somebody's application raises
        said = f"{type(fault).__name__}: {fault}".splitlines()[0]
        raise ScenarioError(
            f"{directory}: the application ended with {said}; {TRACEBACK}=1 shows where"
        ) from fault


def _seconds(given: Any) -> dict[str, float] | None:
    """Return the seconds of each type of message; None where none is given."""
    pairs = _pairs("--seconds", given)
    for kind, value in pairs.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ScenarioError(
                f"--seconds {kind}: must be a number of seconds of at least 0, such as 2.5, got {value!r}"
            )
    return {kind: float(value) for kind, value in pairs.items()} or None


def _pairs(option: str, given: Any) -> dict[str, Any]:
    from cosim.scenario.load import parse_change

    try:
        return dict(map(parse_change, given))
    except ScenarioError as fault:
        raise ScenarioError(str(fault).replace("--set", option)) from None
