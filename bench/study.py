"""Studies: two workers against one, what a case costs beyond its run, and many channels for one training."""

import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

from bench.ratio import Ratio, paired
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load, read_dict
from cosim.scenario.settings import Scenario
from cosim.studies.engines import RequestQueue
from cosim.studies.engines.processes import Processes
from cosim.studies.execute import RunRequest
from cosim.studies.run_study import Tally, run_study
from cosim.studies.settings import Study

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NOISE = "radio.noise_figure_db"
NUM_TIMED, NUM_CHANNELS = 32, 200
NUM_PAIRS, NUM_WARM, NUM_STUDIES = 60, 2, 3
REPEATS = 3


def measure() -> Iterator[Ratio]:
    """Yield the speed of two workers over one, a case's overhead, and 200 channels over a full run."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        yield _two_workers(place)
        yield _beyond_its_run(place)
        yield _channels(place)


def _two_workers(place: Path) -> Ratio:
    """Return what two workers bring, the middle of several ratios: a busy machine then slows both alike."""
    found = []
    for repeat in range(REPEATS):
        one_s, two_s = (_case_s(place / f"{workers}-{repeat}", workers) for workers in (1, 2))
        found.append((one_s / two_s, one_s, two_s))
    speed, one_s, two_s = sorted(found)[REPEATS // 2]
    return Ratio(
        "timing-only cases a second, quickstart, 2 workers / 1",
        speed,
        1.7,
        "at least",
        f"{1 / two_s:.1f} against {1 / one_s:.1f} a second",
    )


def _beyond_its_run(place: Path) -> Ratio:
    """Return what a case costs beyond the run it is, in pairs.

    Both processes are new, so that none has proven a bound before, and look for garbage as seldom.
    """
    alone = ProcessPoolExecutor(1, get_context("spawn"), gc.set_threshold, (50_000,))
    turns = _InTurn(place / "alone", alone)
    played = Processes.perform
    with alone, patch.object(Processes, "perform", lambda self, requests: played(self, turns.of(requests))):
        run_study(_study("pairs", NUM_PAIRS + NUM_WARM), place / "pairs", workers=1)
    case_s, run_s = turns.case_s[NUM_WARM:], turns.run_s[NUM_WARM:]
    found = paired(case_s, run_s)
    return Ratio(
        "a case beyond its run / the run, timing-only quickstart",
        found.median - 1.0,
        0.05,
        note=f"{median(case_s) * 1e3:.1f} ms a case, {median(run_s) * 1e3:.1f} ms the same run by itself; "
        f"their ratio is {found}",
    )


def _channels(place: Path) -> Ratio:
    """Return what 200 channel cases that share a training take, in full runs: the middle of some pairs."""
    scenario = load(SCENARIO)
    run(change(scenario, {"scheme.num_rounds": 1}), place / "warm")  # pays for late imports
    pairs = [_study_and_run_s(scenario, place / f"pair-{number}") for number in range(NUM_STUDIES)]
    study_s, full_s = sorted(pairs, key=lambda pair: pair[0] / pair[1])[NUM_STUDIES // 2]
    each = ", ".join(f"{one / other:.3f}" for one, other in pairs)
    return Ratio(
        f"a study of {NUM_CHANNELS} channel cases / one full run, quickstart",
        study_s / full_s,
        1.2,
        note=f"{study_s:.1f} s against {full_s:.2f} s, pairs {each}; one training, shared by all cases",
    )


def _study_and_run_s(scenario: Scenario, place: Path) -> tuple[float, float]:
    """Return how long a study takes, and a full run, s."""
    begin = perf_counter()
    run(scenario, place / "fresh")
    full_s = perf_counter() - begin
    begin = perf_counter()
    results = run_study(
        _study("channels", NUM_CHANNELS, timing_only=False),
        place / "channels",
        workers=1,  # as many as trainings: it has the threads of the full run
        store=place / "store",
    )
    study_s = perf_counter() - begin
    assert not results.manifest["failed"]
    works = [
        Record.open(path.parent).manifest["works"]
        for path in (place / "channels").glob("runs/*/*/manifest.json")
        if Record.open(path.parent).status != "timed"
    ]
    trainings = sum(one["computed"] for one in works) / sum(works[0].values())
    assert trainings == 1.0
    return study_s, full_s


def _study(name: str, num_cases: int, *, timing_only: bool = True) -> Study:
    return Study.model_validate(
        {
            "name": name,
            "base": SCENARIO,
            "timing_only": timing_only,
            "engine": "events"
            if timing_only
            else "auto",  # workers play nothing where the tensor clock times
            "replications": 1,
            "vary": {"grid": {NOISE: _noise_db(num_cases)}},
        }
    )


def _noise_db(num_cases: int) -> list[float]:
    return [3.0 + 9.0 * number / num_cases for number in range(num_cases)]


def _case_s(folder: Path, workers: int) -> float:
    """Return how long a case takes once the workers are warm, s: from their first answers to the last."""
    at: list[float] = []

    def watch(tally: Tally) -> None:
        if tally.latest is not None:
            at.append(perf_counter())

    run_study(_study("timed", NUM_TIMED), folder, workers=workers, watch=watch)
    return (at[-1] - at[workers]) / (len(at) - 1 - workers)


class _InTurn:
    """A queue for one worker, which waits before each case until another process has made the same run.

    Attributes
    ----------
    case_s, run_s
        How long cases and runs take, s. Of a case that is all in which its worker can not
        go on with the next: the request is made and sent, done, and its answer read.
    """

    is_single = False

    def __init__(self, place: Path, alone: ProcessPoolExecutor) -> None:
        self._place, self._alone = place, alone
        self._sent_s = 0.0
        self.case_s: list[float] = []
        self.run_s: list[float] = []

    def of(self, requests: RequestQueue) -> "_InTurn":
        self._requests = requests
        return self

    def take(self) -> RunRequest | None:
        begin_s = perf_counter()
        if self._sent_s:
            self.case_s[-1] += begin_s - self._sent_s
        request, self._sent_s = self._requests.take(), 0.0
        if request is not None:
            self.case_s.append(perf_counter() - begin_s)
            folder = self._place / str(len(self.case_s))
            self.run_s.append(self._alone.submit(_run_s, request.scenario, folder).result())
            self._sent_s = perf_counter()
        return request


def _run_s(written: dict[str, Any], folder: Path) -> float:
    scenario = read_dict(written, "scenario")
    begin_s = perf_counter()
    run(scenario, folder, timing_only=True)
    return perf_counter() - begin_s
