"""Studies: two workers against one, what a case costs beyond its run, and many channels for one training."""

import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.ratio import Ratio, paired
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load
from cosim.studies.run_study import Tally, run_study
from cosim.studies.settings import Study

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NOISE = "radio.noise_figure_db"
NUM_TIMED, NUM_CHANNELS, PAIRS = 24, 200, 6


def measure() -> Iterator[Ratio]:
    """Yield the speed of two workers over one, a case's overhead, and 200 channels over a full run."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        yield from _timed(place)
        yield _channels(place)


def _timed(place: Path) -> list[Ratio]:
    """Return what two workers bring, and what a case costs beyond the run it is.

    Each side is taken several times in turn, each time in new processes: none has proven a bound before.
    """
    one_s, two_s, run_s = list[float](), list[float](), list[float]()
    for number in range(PAIRS):
        one_s.append(_case_s(place / f"one-{number}", 1))
        run_s.append(_run_s(place / f"runs-{number}"))
        two_s.append(_case_s(place / f"two-{number}", 2))
    speed, whole = paired(one_s, two_s), paired(one_s, run_s)
    return [
        Ratio(
            "timing-only cases a second, quickstart, 2 workers / 1",
            speed.median,
            1.7,
            "at least",
            f"{1 / median(two_s):.1f} against {1 / median(one_s):.1f} a second; {speed}",
        ),
        Ratio(
            "a case beyond its run / the run, timing-only quickstart",
            whole.median - 1.0,
            0.05,
            note=f"{median(one_s) * 1e3:.1f} ms a case, {median(run_s) * 1e3:.1f} ms the same run made by "
            f"itself; {whole}",
        ),
    ]


def _channels(place: Path) -> Ratio:
    """Return what 200 channel cases that share a training take, in full runs."""
    scenario = load(SCENARIO)
    run(change(scenario, {"scheme.num_rounds": 1}), place / "warm")  # pays for late imports
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
    return Ratio(
        f"a study of {NUM_CHANNELS} channel cases / one full run, quickstart",
        study_s / full_s,
        1.2,
        note=f"{study_s:.1f} s against {full_s:.2f} s; one training, shared by all cases",
    )


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
    """Return how long a case takes, s: from the first answers of warm workers to the last."""
    at: list[float] = []

    def watch(tally: Tally) -> None:
        if tally.latest is not None:
            at.append(perf_counter())

    run_study(_study("timed", NUM_TIMED), folder, workers=workers, watch=watch)
    return _each_s(at, workers)


def _run_s(place: Path) -> float:
    """Return how long the same runs take that are made by themselves, in a process as a worker is one, s."""
    process = ProcessPoolExecutor(1, get_context("spawn"), gc.set_threshold, (10_000,))
    with process:  # its threshold is that of the command line
        return process.submit(_runs_s, place).result()


def _runs_s(place: Path) -> float:
    scenario, at = load(SCENARIO), list[float]()
    changed = [change(scenario, {NOISE: noise_db}) for noise_db in _noise_db(NUM_TIMED)]
    for number, one in enumerate(changed):
        run(one, place / str(number), timing_only=True)
        at.append(perf_counter())
    return _each_s(at, 1)


def _each_s(at: list[float], workers: int) -> float:
    """Return how long one takes, s, by when each ended; what workers do first, and one more, warms up."""
    return (at[-1] - at[workers]) / (len(at) - 1 - workers)
