"""What a script or a notebook calls: scenarios, runs, what-ifs, studies, with the command line's defaults.

Everything here is offered by ``import cosim`` itself. Paths are ``str`` or ``Path``, changes are
mappings from a setting's path to its value, and what is returned reads itself back as pandas frames
(``Record.frame``, ``Results.frame``).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cosim.errors import RecordError, ScenarioError
from cosim.graph.store import Store, default_store
from cosim.record.folder import Record
from cosim.runs import default_folder
from cosim.runs import resume as bring_to_end
from cosim.runs import run as play
from cosim.scenario.load import change
from cosim.scenario.load import load as read
from cosim.scenario.settings import Scenario
from cosim.tensor import EngineName
from cosim.whatifs import TimedRecord, opened, other_scenario, whatif_folder
from cosim.whatifs import whatif as play_again
from cosim.world import Progress

if TYPE_CHECKING:
    import pandas

    from cosim.studies.results import Results
    from cosim.studies.run_study import Tally
    from cosim.studies.settings import Study

AnyPath = str | Path

_INSTALLED = Path(__file__).parent / "scenarios"
scenarios = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "scenarios"
"""The folder of the scenarios that come with cosim."""

Values = bool | AnyPath | Store
"""Where learned values are kept: True for the user's own store, False for none, or another."""


def load(path: AnyPath, changes: Mapping[str, Any] | None = None, *, seed: int | None = None) -> Scenario:
    """Return the scenario of a TOML file, changed.

    Parameters
    ----------
    path
        The file; paths in it count from its folder.
    changes
        Settings by path, such as ``{"radio.main_uplink.bandwidth_hz": 20e6}``; None leaves one out.
    seed
        Another seed than the file's.

    Raises
    ------
    ScenarioError
        With every fault of file and changes, one a line.
    """
    return _scenario(path, changes, seed)


def run(
    scenario: Scenario | AnyPath,
    out: AnyPath | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    seed: int | None = None,
    timing_only: bool = False,
    store: Values = True,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Record:
    """Run a scenario and return its record.

    Parameters
    ----------
    scenario
        A scenario, or its file.
    out
        The run folder, which must not be there. Without it the folder is ``runs/NAME/HASH``, and a
        run that is complete there is returned as it is.
    changes, seed
        As for :func:`load`.
    timing_only
        Compute no tensor: times, amounts and grants only.
    store
        Where learned values are looked for and kept.
    watch
        Called at the end of each round.

    Raises
    ------
    CosimError
        If the scenario cannot run, or the folder is there already.
    DivergedError
        If the training diverges; the folder says where.
    """
    chosen = _scenario(scenario, changes, seed)
    folder = default_folder(chosen, timing_only=timing_only) if out is None else Path(out)
    if (folder / "manifest.json").is_file():
        there = Record.open(folder, is_for_replay=True)
        if out is not None:
            raise RecordError(f"out: {folder} is a run already ({there.status}); open_run() reads it.")
        if there.status == "complete":
            return Record.open(folder)
        return resume(folder, store=store, watch=watch)
    return Record.open(
        play(
            chosen,
            folder,
            timing_only=timing_only,
            store=_store(False if timing_only else store),
            watch=watch,
        )
    )


def resume(
    run: Record | AnyPath, *, store: Values = True, watch: Callable[[Progress], None] = lambda progress: None
) -> Record:
    """Bring a run that was stopped to its end, with the bytes it would have had; returns its record.

    Raises
    ------
    RecordError
        If there is nothing to resume.
    """
    return Record.open(bring_to_end(_folder(run), store=_store(store), watch=watch))


def whatif(
    run: Record | AnyPath,
    changes: Mapping[str, Any],
    *,
    at_s: float | None = None,
    out: AnyPath | None = None,
    store: Values = True,
    engine: EngineName = "auto",
    watch: Callable[[Progress], None] | None = None,
) -> Record:
    """Take a run under other conditions, recalling what was learned; returns the new record.

    Parameters
    ----------
    run
        A run that has ended, or its folder.
    changes
        Settings by path.
    at_s
        Change them at this instant of simulated time, not from the beginning.
    out
        The new run's folder; without it ``runs/NAME/HASH``, and a run that is there is returned.
    store
        As for :func:`run`.
    engine
        ``tensor`` times it by the tensor clock, and the event kernel plays it when one of its tables is asked
        for; ``auto`` does so where the tensor clock can promise its times, ``events`` plays it at once.
    watch
        As for :func:`run`; such a run is played at once, unless ``tensor`` is asked for.

    Raises
    ------
    CosimError
        If the run has not ended, the changes make a fault, or the folder is there already.
    """
    if engine not in get_args(EngineName):
        raise ScenarioError(f"engine: {engine!r} is none of {', '.join(map(repr, get_args(EngineName)))}.")
    before = record_of(run)
    scenario = other_scenario(before, changes, at_s)
    folder = whatif_folder(before, scenario, None if out is None else Path(out))
    if out is not None and (folder / "manifest.json").is_file():
        raise RecordError(f"out: {folder} is a run already; open_run() reads it.")
    kept = _store(False if before.manifest["timing_only"] else store)
    there = None if out is None else folder
    who = "events" if engine == "auto" and watch is not None else engine
    told = watch or (lambda progress: None)
    after = play_again(before.path, changes, at_s=at_s, out=there, store=kept, engine=who, watch=told)
    found = Record.open(after)
    return found if found.status != "timed" else TimedRecord.of(found, kept)


def study(
    study: "Study | AnyPath",
    out: AnyPath | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    store: bool | AnyPath = True,
    seed: int | None = None,
    engine: EngineName | None = None,
    watch: "Callable[[Tally], None]" = lambda tally: None,
) -> "Results":
    """Run a scenario under many conditions, with replications; returns the results.

    Parameters
    ----------
    study
        A study, or its file.
    out
        Where it goes, or goes on; ``studies/NAME`` without it.
    workers, scheduler
        Processes on this machine, or the address of a dask scheduler.
    store
        As for :func:`run`.
    seed
        Another seed for the first replication.
    engine
        ``auto``, ``events`` or ``tensor``; the study's own without it.
    watch
        Told how far it is, after each run.

    Raises
    ------
    CosimError
        If the study cannot begin, or nobody is left to make runs.
    """
    from cosim.studies.load import load_study
    from cosim.studies.run_study import run_study

    chosen = load_study(study) if isinstance(study, str | Path) else study
    return run_study(
        chosen,
        out,
        workers=workers,
        scheduler=scheduler,
        store=None if isinstance(store, bool) else store,
        keep_values=store is not False,
        seed=seed,
        engine=engine,
        watch=watch,
    )


def open_run(path: AnyPath) -> Record:
    """Return the run in a folder, every file of it verified; one that was only timed is played first.

    Raises
    ------
    RecordError
        If the folder is no run, or is not what was written.
    """
    return opened(path)


def open_study(path: AnyPath) -> "Results":
    """Return the study in a folder, every file of its results verified.

    Raises
    ------
    RecordError
        If the folder is no study, or is not what was written.
    """
    from cosim.studies.results import Results

    return Results.open(path)


def compare(*runs: Record | AnyPath) -> "pandas.DataFrame":
    """Return a row for each run: its times, energy, losses, and what of the settings differs from the first.

    Columns: ``simulated_s``; ``PHASE_s``, the time during which any span of that name went on;
    ``energy_j``; ``eval_loss``, the last (of several tasks ``eval_loss_TASK``); ``differs``, the
    settings in which the run differs from the first, in words.

    Raises
    ------
    RecordError
        If there are fewer than two runs, one cannot be read, or pandas is not installed.
    """
    from cosim.report.comparison import compare_all, differences
    from cosim.units import NS_PER_S

    try:
        import pandas
    except ImportError:
        raise RecordError("a data frame needs pandas: install it by pip install pandas.") from None
    records = [record_of(one) for one in runs]
    found = compare_all(records)
    rows = []
    for summary in (found[0].before, *(one.after for one in found)):
        times = {f"{phase.name}_s": phase.covered_ns / NS_PER_S for phase in summary.phases}
        losses = {f"eval_loss{'_' * bool(one.task)}{one.task}": one.last_loss for one in summary.learning}
        energy_j = sum(summary.energy_j.values())
        rows.append({"simulated_s": summary.length_ns / NS_PER_S, **times, "energy_j": energy_j, **losses})
    frame = pandas.DataFrame(rows, index=[str(one.path) for one in records])
    frame["differs"] = ["", *(differences(one.settings) for one in found)]
    return frame


def _scenario(given: Scenario | AnyPath, changes: Mapping[str, Any] | None, seed: int | None) -> Scenario:
    scenario = read(given) if isinstance(given, str | Path) else given
    if not changes and seed is None:
        return scenario
    return change(scenario, changes or {}, seed, source="changes")


def record_of(run: Record | AnyPath) -> Record:
    """Return a run; one that was only timed is played first."""
    if isinstance(run, TimedRecord):
        return run.played
    return run if isinstance(run, Record) else open_run(run)


def _folder(run: Record | AnyPath) -> Path:
    return run.path if isinstance(run, Record) else Path(run)


def _store(kept: Values) -> Store | None:
    if isinstance(kept, Store):
        return kept
    if isinstance(kept, bool):
        return Store(default_store()) if kept else None
    return Store(Path(kept))
