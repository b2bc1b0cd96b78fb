"""A scenario in, a run folder out."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosim.errors import RecordError
from cosim.graph.executor import Executor, TimingOnly
from cosim.graph.store import LostValueError, Store
from cosim.learning.execution import make_executor, refuse_without_torch
from cosim.learning.payload import bits_are_known
from cosim.leaves import leaves
from cosim.messaging import Program, refuse_resume
from cosim.origin import origin
from cosim.record.folder import Record, RunFolder
from cosim.scenario.build import prepare_tasks
from cosim.scenario.inputs import digests, fetched
from cosim.scenario.load import load_again, other_than_begun_with, run_hash, to_dict, to_toml
from cosim.scenario.prepared import Prepared, notes_of, recipes, worlds
from cosim.scenario.settings import Scenario
from cosim.tensor import EngineName
from cosim.timed_runs import keep_order, rounds, takes_tensor
from cosim.tracking.follower import Follower
from cosim.units import NS_PER_S
from cosim.world import Progress, World

_log = logging.getLogger(__name__)

Within = Callable[[int, int], None]
"""Called as values of a round are computed, with how many are and how many there are."""


def run(
    scenario: Scenario,
    folder: Path | None = None,
    *,
    timing_only: bool = False,
    store: Store | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    within: Within | None = None,
    program: Program | None = None,
    engine: EngineName = "auto",
) -> Path:
    """Build the world, play it, and record what happened.

    Parameters
    ----------
    scenario
        What to run.
    folder
        Where to record; ``runs/<name>/<first 12 hex of the run's hash>`` without it.
    timing_only
        Compute no tensor: times, amounts and grants only.
    store
        Where learned values are looked for and kept; without it everything is
        computed and nothing kept.
    watch, within
        Called at the end of each round, and as the values of one are computed.
    program
        Whose messages are carried, in place of the scheme's; no tensor is then computed.
    engine
        Who finds the times. The tensor clock does in a run without values that keeps summaries in place of
        spans, unless it cannot promise them.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    CosimError
        If the scenario cannot run or the folder exists. Once the run has begun,
        whatever stops it leaves a folder marked ``failed`` with all that was
        recorded so far.
    DivergedError
        If a loss or an adapter is not finite any more; the folder is marked
        ``diverged``, and has no adapter.
    """
    timing_only = timing_only or program is not None
    if not timing_only:
        refuse_without_torch()
    prepared = prepare_tasks(scenario) if program is None else (program.prepare(scenario),)
    is_tensor = program is None and takes_tensor(prepared, engine, timing_only=timing_only)
    for one in prepared:
        if one.fading is not None and one.fading.note is not None:
            _log.warning("%s", one.fading.note)  # a run that may go on for hours says so before it begins
    record = RunFolder.create(
        folder or default_folder(scenario, timing_only=timing_only),
        to_toml(scenario),
        {
            "name": scenario.name,
            "seed": scenario.seed,
            "timing_only": timing_only,
            "scenario": run_hash(scenario),
            **({} if program is None else {"program": program.name}),
            **_made_of(scenario, prepared, is_tensor=is_tensor),
        },
    )
    with record.held():
        return _play(prepared, record, timing_only, store, watch, within, program, is_tensor=is_tensor)


def resume(
    folder: Path,
    *,
    store: Store | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    within: Within | None = None,
) -> Path:
    """Bring a run that was stopped to its end, with the bytes it would have had.

    It is played again from time zero. What the store holds is recalled, so
    that it is where it was stopped in seconds.

    Raises
    ------
    RecordError
        If the folder is no run, the run is complete and undamaged or still going
        on, or its scenario was changed by hand.
    DivergedError
        If the training diverges, as one that has diverged does again.
    """
    record = Record.open(folder, is_for_replay=True)
    _refuse_complete(record)
    refuse_resume(record)
    if record.status == "complete":
        _log.warning("%s: is damaged; the run is played again", folder)
    scenario = scenario_of(record)
    prepared, timing_only = prepare_tasks(scenario), record.manifest["timing_only"]
    is_played = scenario.record == "spans" or record.manifest.get("engine") == "events"
    is_tensor = not is_played and takes_tensor(prepared, "auto", timing_only=timing_only)
    if not timing_only:
        refuse_without_torch()
    resumed = RunFolder.reopen(record, _made_of(scenario, prepared, is_tensor=is_tensor))
    with resumed.held():
        again = Record.open(folder, is_for_replay=True)  # another process may have ended it meanwhile
        _refuse_complete(again)
        return _play(prepared, resumed, timing_only, store, watch, within, is_tensor=is_tensor)


def _made_of(scenario: Scenario, prepared: Sequence[Prepared], *, is_tensor: bool) -> dict[str, Any]:
    """Return what a record says of code and inputs, and what its reader must know of them."""
    told: dict[str, Any] = {"notes": list(notes_of(prepared))}
    if labels := [label for one in prepared for label in one.task.labels]:
        told["labels"] = list(dict.fromkeys(labels))
    made = origin(one.scenario for task in prepared for one in (task, *task.stages))
    how = {"engine": "tensor" if is_tensor else "events"}
    if scenario.record == "summary":
        how["record"] = "summary"
    return {**how, **made, **told, "inputs": digests(scenario) | fetched(scenario)}


def _refuse_complete(record: Record) -> None:
    if record.status == "complete" and record.damaged_file() is None:
        raise RecordError(f"{record.path}: the run is complete; there is nothing to resume.")


def scenario_of(record: Record) -> Scenario:
    """Return the scenario a run was made from.

    Raises
    ------
    RecordError
        If the file in its folder, or one it names, is not the one the run began with.
    """
    scenario = load_again(record.scenario_path)
    which = other_than_begun_with(scenario, record.manifest)
    if which is not None:
        raise RecordError(
            f"{record.path}: {which} is not the one the run began with; "
            f"run it as a new one: cosim run {record.scenario_path}"
        )
    return scenario


def _play(
    prepared: Sequence[Prepared],
    record: RunFolder,
    timing_only: bool,
    store: Store | None,
    watch: Callable[[Progress], None],
    within: Within | None,
    program: Program | None = None,
    *,
    is_tensor: bool,
) -> Path:
    """Play a run to its end and write its record; a fault leaves the record marked failed."""
    began = time.monotonic()
    bits = "exact"
    foresees = timing_only and program is None
    if foresees and not all(bits_are_known(one.task, one.num_blocks) for one in prepared):
        bits = "at most"
        _log.warning("bits that depend on values are charged as the most they can be")
    if foresees and any(one.name == "energies" for one in prepared[0].scenario.allocator.reports):
        _log.warning(
            "without values nobody knows what is worth sending: what a client leaves unsent is taken to fall "
            "in a straight line, the same for all, so sparsification ratios come to all or nothing, unlike "
            "in a training"
        )
    scenario = prepared[0].scenario
    follower = None if scenario.track is None else _followed(scenario, record.path)
    with record.writing():
        record.mark("running")

    def executor(one: Prepared) -> Callable[[int], Executor]:
        return lambda rank: TimingOnly() if timing_only else make_executor(one.task, rank, store, within)

    def keep_up(progress: Progress) -> None:
        with record.writing():
            record.keep_up(site.log)
        if follower is not None:
            follower.follow(site.log.metrics)
        watch(progress)

    while True:
        learning = worlds(prepared, executor, keep_up)
        site = learning[0].site
        try:
            if program is not None:
                steps = [program.steps(learning[0])]
            else:
                steps = [rounds(prepared[0], learning[0])] if is_tensor else recipes(prepared, learning)
            site.play(steps)
            with record.writing():
                for world in learning:
                    world.save_adapter(record.path / world.task.trainable.folder / world.task.name)
                plan = learning[0].plan() if program is None else None
                outcome = _outcome(learning, store, began)
                if program is not None:
                    outcome["messages"] = program.post.recorded()
                record.finish(site.log, "complete", plan=plan, bits=bits, **outcome)
        except LostValueError:
            continue  # a value went while it was in use; what is left is found again, the rest computed
        except BaseException as fault:
            record.fail(site.log, fault, **_outcome(learning, store, began))
            if follower is not None:
                follower.close("failed")
            raise
        if follower is not None:
            follower.follow(site.log.metrics)
            follower.close("complete")
        if not timing_only and scenario.record == "spans" and len(learning) == 1:
            keep_order(prepared[0], record.path, learning[0])
        return record.path


def _followed(scenario: Scenario, folder: Path) -> Follower:
    """Return who tells the scenario's tracker of the run in a folder."""
    assert scenario.track is not None
    settings = dict(leaves(to_dict(scenario.model_copy(update={"track": None}))))
    return Follower(scenario.track.begin(f"{scenario.name}-{folder.name}", settings))


def default_folder(scenario: Scenario, *, timing_only: bool) -> Path:
    """Return the run folder a scenario has if none is named."""
    suffix = "-timing" if timing_only else ""
    return Path("runs") / scenario.name / (run_hash(scenario)[:12] + suffix)


def _outcome(learning: Sequence[World], store: Store | None, began: float) -> dict[str, Any]:
    executors = [world.executor or TimingOnly() for world in learning]
    return {
        "simulated_s": learning[0].clock.now / NS_PER_S,
        "wall_s": round(time.monotonic() - began, 3),
        "works": {
            "computed": sum(one.num_computed for one in executors),
            "recalled": sum(one.num_recalled for one in executors),
        },
        "executor_fallback": next((one.fallback_reason for one in executors if one.fallback_reason), None),
        "store_warning": None if store is None else store.warning,
    }
