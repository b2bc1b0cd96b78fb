"""Studies: two workers against one, what a case costs beyond its run, and many channels for one training."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.ratio import Ratio
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load
from cosim.studies.run_study import Tally, run_study
from cosim.studies.settings import Study

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NOISE = "radio.noise_figure_db"
NUM_TIMED, NUM_CHANNELS = 32, 200
REPEATS = 3


def measure() -> Iterator[Ratio]:
    """Yield the speed of two workers over one, a case's overhead, and 200 channels over a full run."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        yield from _timed(place)
        yield _channels(place)


def _timed(place: Path) -> list[Ratio]:
    """Return what two workers bring, and what a case costs beyond the run it is.

    Each side is taken several times in turn, and the middle ratio is told: a busy
    machine then slows both alike.
    """
    found = []
    for repeat in range(REPEATS):
        one_s, two_s = (_case_s(place / f"{workers}-{repeat}", workers) for workers in (1, 2))
        found.append((one_s, two_s, _run_s(place / f"runs-{repeat}", repeat)))
    speeds = sorted((one_s / two_s, one_s, two_s) for one_s, two_s, _ in found)
    shares = sorted(((one_s - run_s) / run_s, one_s, run_s) for one_s, _, run_s in found)
    speed, one_s, two_s = speeds[REPEATS // 2]
    share, case_s, run_s = shares[REPEATS // 2]
    return [
        Ratio(
            "timing-only cases a second, quickstart, 2 workers / 1",
            speed,
            1.7,
            "at least",
            f"{1 / two_s:.1f} against {1 / one_s:.1f} a second",
        ),
        Ratio(
            "a case beyond its run / the run, timing-only quickstart",
            share,
            0.05,
            note=f"{case_s * 1e3:.1f} ms a case, {run_s * 1e3:.1f} ms the same run made by itself",
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


def _noise_db(num_cases: int, repeat: int = 0) -> list[float]:
    """Return noise figures, other ones at each repeat: what proves a bound is kept in a process."""
    return [3.0 + 9.0 * (number + repeat / REPEATS) / num_cases for number in range(num_cases)]


def _case_s(folder: Path, workers: int) -> float:
    """Return how long a case takes once the workers are warm, s: from their first answers to the last."""
    at: list[float] = []

    def watch(tally: Tally) -> None:
        if tally.latest is not None:
            at.append(perf_counter())

    run_study(_study("timed", NUM_TIMED), folder, workers=workers, watch=watch)
    return (at[-1] - at[workers]) / (len(at) - 1 - workers)


def _run_s(place: Path, repeat: int) -> float:
    """Return how long the same runs take when they are made by themselves, each."""
    scenario = load(SCENARIO)
    changed = [change(scenario, {NOISE: noise_db}) for noise_db in _noise_db(NUM_TIMED, repeat)]
    run(changed[0], place / "warm", timing_only=True)
    begin = perf_counter()
    for number, one in enumerate(changed):
        run(one, place / str(number), timing_only=True)
    return (perf_counter() - begin) / NUM_TIMED
