"""One run of a study: a request in, an outcome out; the same wherever it is executed.

Both are plain values, so that they can go to another process as JSON and to
another machine as they are.
"""

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any

from cosim.distribution import own_version
from cosim.errors import CosimError, DivergedError, RecordError
from cosim.graph.locks import locked
from cosim.graph.store import Store
from cosim.parts import make
from cosim.record.folder import Record
from cosim.runs import resume, run
from cosim.scenario.inputs import first_other
from cosim.scenario.load import read_dict, run_hash
from cosim.scenario.settings import Scenario
from cosim.studies.measures import Measure, losses

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class RunRequest:
    """One run to be made.

    Attributes
    ----------
    case, replication
        Which run of the plan it is.
    scenario
        Every setting, as :func:`cosim.scenario.load.to_dict` writes it.
    folder
        The run folder, absolute.
    store
        The store's folder, absolute; None for none.
    timing_only
        Whether no tensor is computed.
    measures
        What the run is asked for, each as its settings.
    version
        Of cosim, which must be that of who plays it.
    inputs
        Hashes of the files that the scenario names, as they were when the study began.
    """

    case: int
    replication: int
    scenario: dict[str, Any]
    folder: str
    store: str | None
    timing_only: bool
    measures: list[dict[str, Any]]
    version: str
    inputs: dict[str, str]


@dataclass(frozen=True)
class RunOutcome:
    """What came of a request: values, or the reason why there are none.

    Attributes
    ----------
    case, replication
        Those of the request.
    values
        The measures in their order.
    losses
        Simulated time, s, round, value and task of every held-out loss.
    wall_s
        How long it took.
    num_computed
        Works whose value was computed rather than recalled.
    reason
        Why the run failed; empty where it did not.
    warning
        Why its values could not be kept; empty where they could.
    diverged
        Where its training diverged; empty where it did not. Such a run has been
        made, and has no number.
    """

    case: int
    replication: int
    values: tuple[float, ...] = ()
    losses: tuple[tuple[float, int, float, str], ...] = ()
    wall_s: float = 0.0
    num_computed: int = 0
    reason: str = ""
    warning: str = ""
    diverged: str = ""


def perform(request: RunRequest) -> RunOutcome:
    """Make a run and measure it; a fault of the run is an outcome too.

    One at a time in a process, however many threads it has.
    """
    with _ONE_AT_A_TIME:
        began = perf_counter()
        try:
            if request.version != own_version():
                raise RecordError(
                    f"the worker has cosim {own_version()}, the study {request.version}; install one version."
                )
            execute(request)
            record = Record.open(Path(request.folder))
            found = outcome_of(
                record, request.case, request.replication, _measures(tuple(map(_frozen, request.measures)))
            )
        except Exception as fault:
            reason = _reason(fault)
            return RunOutcome(request.case, request.replication, wall_s=perf_counter() - began, reason=reason)
        return replace(found, wall_s=perf_counter() - began)


def execute(request: RunRequest) -> None:
    """Leave the request's run ended in its folder, whatever was there of it before.

    A training that diverges ends a run as its last round does.

    Where another process is at it, as a worker of a cluster may be for a study that
    was killed, this one waits until that has ended it, or has died.

    Raises
    ------
    CosimError
        If the scenario cannot run, or the folder holds another run.
    """
    scenario, folder = read_dict(request.scenario, "scenario"), Path(request.folder)
    store = None if request.store is None or request.timing_only else _store(request.store)
    if other := first_other(scenario, request.inputs):
        raise RecordError(
            f"{folder}: {other} has changed since the study began, or is another file where this worker is; "
            "see that it is the same, and give the same command again."
        )
    with locked(folder.parent, [(folder.name, "run")]):
        if not (folder / "manifest.json").exists():
            with suppress(DivergedError):
                run(scenario, folder, timing_only=request.timing_only, store=store)
            return
        try:
            record = Record.open(folder, is_for_replay=True)
        except RecordError as fault:
            told = str(fault).partition(";")[0]
            raise RecordError(f"{told}; remove {folder}, and the study's command makes it again.") from None
        if not _is_of(record, scenario, request.timing_only):
            raise RecordError(
                f"{folder}: holds another run than the study's; "
                "move it away, or name another folder with --out."
            )
        if not record.has_ended or record.damaged_file() is not None:
            with suppress(DivergedError):
                resume(folder, store=store)


def kept(folder: Path, scenario: Scenario, timing_only: bool) -> Record | None:
    """Return the record in a folder that holds this run, all there will be of it; None where it does not."""
    try:
        record = Record.open(folder)
    except RecordError:
        return None
    return record if record.has_ended and _is_of(record, scenario, timing_only) else None


def outcome_of(record: Record, case: int, replication: int, measures: tuple[Measure, ...]) -> RunOutcome:
    """Return what came of an ended run.

    A run that diverged has no number: what it took until then is no total.

    Raises
    ------
    RecordError
        If the run cannot be read, or can have no such measure.
    """
    manifest, diverged = record.manifest, record.status == "diverged"
    return RunOutcome(
        case,
        replication,
        values=tuple(nan if diverged else one.of(record) for one in measures),
        losses=() if manifest["timing_only"] else tuple(losses(record)),
        num_computed=manifest["works"]["computed"],
        warning=manifest.get("store_warning") or "",
        diverged=str(manifest.get("reason") or "diverged") if diverged else "",
    )


def _is_of(record: Record, scenario: Scenario, timing_only: bool) -> bool:
    manifest = record.manifest
    return (manifest.get("scenario"), manifest.get("timing_only")) == (run_hash(scenario), timing_only)


def _reason(fault: Exception) -> str:
    """Return in one line why a run failed."""
    told = " ".join(str(fault).split())
    return told if isinstance(fault, CosimError) and told else f"{type(fault).__name__}: {told}"


@cache
def _store(folder: str) -> Store:
    """Return the store of this process, opened once."""
    return Store(Path(folder), remembers=True)


@cache
def _measures(settings: tuple[tuple[tuple[str, Any], ...], ...]) -> tuple[Measure, ...]:
    return tuple(make(Measure, dict(one)) for one in settings)  # type: ignore[type-abstract]


def _frozen(settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(settings.items())
