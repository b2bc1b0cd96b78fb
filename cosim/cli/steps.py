"""What several commands do: read a scenario, open a store, show a run that has ended."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosim.errors import ScenarioError
from cosim.visible import show_line as print  # names may come from anybody


def be_quick() -> None:
    """Save what only pays in a process that lives long: threads for numpy, collecting garbage."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()


def read_scenario(file: Path, changes: list[str] | None, seed: int | None) -> tuple[Any, list[str]]:
    """Return the scenario of a file with changes, and what other kinds made of its tables."""
    from cosim.cli.switching import switched
    from cosim.scenario.load import change, load, parse_change

    try:
        scenario = load(file)
    except ScenarioError:
        _refuse_study(file)
        raise
    if not changes and seed is None:
        return scenario, switched(scenario)
    told = dict(map(parse_change, changes or ()))
    changed = change(scenario, told, seed)
    return changed, switched(changed, scenario, told)


def _refuse_study(file: Path) -> None:
    """Name the command of a file that is a study or an audit."""
    from cosim.audits import is_audit
    from cosim.scenario.load import read_toml
    from cosim.studies import is_study

    given = read_toml(file)
    if is_audit(given) or is_study(given):
        what, command = ("an audit", "audit") if is_audit(given) else ("a study", "study")
        raise ScenarioError(f"{file}: is {what}, no scenario; give cosim {command} {file}")


def tell_changed(switched: list[str]) -> None:
    """Say on stderr what other kinds made of tables."""
    for line in switched:
        print(f"changed: {line}", file=sys.stderr)


def open_run(folder: Path) -> Any:
    """Return the run in a folder; one that was only timed is played first."""
    from cosim.record.folder import Record

    record = Record.open(folder)
    if record.status != "timed":
        return record
    from cosim.whatifs import opened

    print("the run was timed by the tensor clock; it is played for its spans", file=sys.stderr)
    return opened(folder)


def open_store(folder: Path | None) -> Any:
    """Return the store in a folder, or that of the user."""
    from cosim.graph.store import Store, default_store

    return Store(folder or default_store())


@contextmanager
def keeping(folder: Path | None, unwanted: bool) -> Iterator[Any]:
    """Open the store, or none, and warn at the end if it could not be written."""
    kept = None if unwanted else open_store(folder)
    try:
        yield kept
    finally:
        if kept is not None and kept.warning is not None:
            print(f"warning: {kept.warning}", file=sys.stderr)


def say_json(told: Any) -> None:
    """Print one JSON document, of plain values and dataclasses."""
    import json

    from cosim.report.as_json import plain

    print(json.dumps(plain(told)))


@contextmanager
def showing(
    folder: Path,
    show: Callable[[Path], None],
    tell: Callable[[Path], Any],
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> Iterator[None]:
    """Show a run when it has ended, one that diverged too; why it did is still raised, as the last word.

    As JSON it is what ``tell`` returns, with the folder.
    """
    from cosim.errors import DivergedError

    diverged: DivergedError | None = None
    try:
        yield
    except DivergedError as fault:
        diverged = fault
    if as_json:
        say_json({"folder": str(folder), **tell(folder)})
    elif not quiet:
        show(folder)
        print(f"run folder: {folder}")
    if diverged is not None:
        sys.stdout.flush()
        raise diverged


def show_summary(folder: Path) -> None:
    """Print what a run came to."""
    from cosim.record.folder import Record
    from cosim.report.summary import summarise
    from cosim.report.terminal import on_stdout, show

    show(summarise(Record.open(folder)), on_stdout())
