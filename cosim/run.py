"""A scenario in, a run folder out."""

import os
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from cosim.learning.executor import Executor, TimingOnly
from cosim.record.folder import RunFolder
from cosim.scenario.build import Prepared, prepare
from cosim.scenario.load import run_hash, to_toml
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S
from cosim.world import Progress, World


def run(
    scenario: Scenario,
    folder: Path | None = None,
    *,
    timing_only: bool = False,
    watch: Callable[[Progress], None] = lambda progress: None,
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
    watch
        Called at the end of each round.

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
    """
    began = time.monotonic()
    prepared = prepare(scenario)
    record = RunFolder.create(
        folder or default_folder(scenario, timing_only=timing_only),
        to_toml(scenario),
        {"name": scenario.name, "seed": scenario.seed, "timing_only": timing_only, **_origin()},
    )
    world: World | None = None
    try:
        world = prepared.world(_executor(prepared, timing_only), watch)
        world.clock.run(world.clock.process(scenario.scheme.run(world), "the scheme"))
        world.save_adapter(record.adapter_folder)
        record.finish(world.log, "complete", **_times(world, began))
    except BaseException as fault:
        reason = str(fault) or type(fault).__name__
        if world is None:
            record.mark("failed", reason=reason)
        else:
            record.finish(world.log, "failed", reason=reason, **_times(world, began))
        raise
    return record.path


def default_folder(scenario: Scenario, *, timing_only: bool) -> Path:
    """Return the run folder a scenario has if none is named."""
    suffix = "-timing" if timing_only else ""
    return Path("runs") / scenario.name / (run_hash(scenario)[:12] + suffix)


def _executor(prepared: Prepared, timing_only: bool) -> Callable[[int], Executor]:
    return (lambda _rank: TimingOnly()) if timing_only else prepared.lesson.executor


def _times(world: World, began: float) -> dict[str, float]:
    return {"simulated_s": world.clock.now / NS_PER_S, "wall_s": round(time.monotonic() - began, 3)}


def _origin() -> dict[str, Any]:
    """Return versions and commit, so that a record says what made it."""
    names = ("cosim", "torch", "transformers", "peft", "numpy", "simpy", "pyarrow")
    git = subprocess.run(
        ["git", "-C", os.fspath(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "versions": {name: metadata.version(name) for name in names},
        "commit": git.stdout.strip() or None,
    }
