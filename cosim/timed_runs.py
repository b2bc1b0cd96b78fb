"""Runs whose times the tensor clock finds: whole rounds with their summaries, or no more than a length."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosim.errors import CosimError, ScenarioError
from cosim.kernel.clock import Steps
from cosim.origin import foreign_parts
from cosim.record.folder import Record, RunFolder
from cosim.record.summaries import Summaries, Work
from cosim.scenario.build import prepare
from cosim.scenario.inputs import digests, fetched
from cosim.scenario.load import load_again, run_hash, to_toml
from cosim.scenario.prepared import Prepared
from cosim.scenario.settings import Scenario
from cosim.tensor import EngineName
from cosim.tensor.clock import TensorClock
from cosim.tensor.order import MOST_SPANS, kept_order, order_of
from cosim.tensor.refusals import refuse, refuse_other_settings
from cosim.tensor.rounds import RoundClock, refuse_rounds
from cosim.world import Moment, World


def takes_tensor(prepared: Sequence[Prepared], engine: EngineName, *, timing_only: bool) -> bool:
    """Return whether the tensor clock finds the times of a run, of these tasks.

    Raises
    ------
    ScenarioError
        If it is asked to, and cannot.
    """
    if engine == "events":
        return False
    scenario = prepared[0].scenario
    try:
        if scenario.record != "summary":
            raise ScenarioError(
                "record: the tensor clock leaves summaries in place of spans, and 'spans' are wanted; take "
                "record = 'summary', or engine = \"events\"."
            )
        if not timing_only:
            raise ScenarioError('engine: "tensor" computes no values; give --timing-only, or take "events".')
        refuse_rounds(prepared)
    except ScenarioError:
        if engine == "tensor":
            raise
        return False
    return True


def rounds(prepared: Prepared, world: World) -> Steps:
    """Play all rounds by the tensor clock, and keep their summaries."""
    world.begin()
    world.end_round(0)
    clock = RoundClock(prepared, world)
    world.log.summaries = summaries = Summaries(world.client_names)
    scheme, task = prepared.scenario.scheme, prepared.task
    open_ = list[Work]()  # rounds in which somebody late is not done yet
    for round_ in range(1, scheme.num_rounds + 1):
        drawn = scheme.taking_part(task.seed, task.num_clients, round_)
        yield from world.start_round(round_, drawn)
        work = clock.play(round_)
        yield world.clock.timeout(clock.now_ns - world.clock.now)
        if scheme.cutoff is not None:
            world.note(Moment(round_), scheme.cutoff.counted, clock.num_in_time)
        open_.append(work)
        while open_ and open_[0].end_ns.max(initial=0) <= clock.now_ns:
            summaries.add(open_.pop(0))
        world.end_round(round_)
    for work in open_:
        summaries.add(work.ended_by(clock.now_ns))


def time_whatif(was: Scenario, record: Record, scenario: Scenario, folder: Path) -> Path:
    """Leave the folder of a what-if on a run, which the tensor clock times.

    The clock of that run is kept for the next what-if on it in this process: to set it takes longer
    than all else.

    Raises
    ------
    ScenarioError
        If it cannot.
    """
    refuse(scenario)
    refuse_other_settings(was, scenario)
    timing_only, known = record.manifest["timing_only"], _latest.get(_key(record))
    prepared = prepare(scenario, None if known is None else known.prepared)
    clock = known or _clock_of(was, record, prepared)
    (times,) = clock.evaluate([clock.air(scenario.radio, scenario, prepared.allocation)])
    if not timing_only and times.heard is not None:
        times = times.refuse_others_late(next(clock.evaluate([clock.air(was.radio)])))
    for why in times.faults.values():
        raise ScenarioError(why)
    return leave_timed(scenario, folder, timing_only=timing_only, simulated_s=float(times.total_s[0]))


_latest: dict[tuple[Any, ...], TensorClock] = {}


def _key(record: Record) -> tuple[Any, ...]:
    """Return what tells a run from others, and from what it was before it was played again."""
    return record.path.absolute(), *map(record.manifest.get, ("scenario", "digest", "timing_only"))


def _clock_of(was: Scenario, record: Record, prepared: Prepared) -> TensorClock:
    """Return the clock of a run, which is kept; ``prepared`` is it, but for radio and allocator."""
    learned = None if record.manifest["timing_only"] else record
    if was.scheme.cutoff is None:
        order = kept_order(record, foreign_parts([was]), lambda: TensorClock(was, learned=learned).order)
        clock = TensorClock(was, prepared, order=order)
    else:
        clock = TensorClock(was, learned=learned)
    _keep(record, clock)
    return clock


def _keep(record: Record, clock: TensorClock) -> None:
    _latest.clear()
    _latest[_key(record)] = clock


def keep_order(prepared: Prepared, folder: Path, world: World) -> None:
    """Keep the order of the spans of a run that has just ended, for what-ifs on it, the first one too.

    Of a run that the tensor clock cannot time, or that is long, none is kept.
    """
    scenario = prepared.scenario
    if scenario.scheme.cutoff is None and len(world.log.spans) <= MOST_SPANS:
        with suppress(CosimError):  # the run is complete, whatever comes of this
            refuse(scenario)
            record = Record.open(folder, is_for_replay=True)
            order = kept_order(record, foreign_parts([scenario]), lambda: order_of(scenario, world))
            _keep(record, TensorClock(scenario, prepared, order=order))
            load_again(record.scenario_path)  # as a what-if will


def leave_timed(scenario: Scenario, folder: Path, *, timing_only: bool, simulated_s: float) -> Path:
    """Leave the folder of a run that the tensor clock timed: its scenario and its length.

    Raises
    ------
    RecordError
        If the folder cannot be made, or is there already.
    """
    made = {
        "name": scenario.name,
        "seed": scenario.seed,
        "timing_only": timing_only,
        "scenario": run_hash(scenario),
        "engine": "tensor",
        "inputs": digests(scenario) | fetched(scenario),
        "simulated_s": simulated_s,
    }
    RunFolder.create(folder, to_toml(scenario), made, "timed")
    return folder
