"""A what-if with a warm store against a fresh run, in one process: timed, played, and of a larger model."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from bench.ratio import Ratio, paired
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.whatifs import whatif

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NUM_WHATIFS = 9
LARGER = {
    "model_type": "gpt2",
    "n_layer": 8,
    "n_embd": 256,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": 2048,
}


def measure() -> list[Ratio]:
    """Return fresh over what-if, timed and played, and what-if at one size of the model over another."""
    small = load(SCENARIO)
    tokenizer = small.model.base.tokenizer_folder()
    larger = change(
        small,
        {
            "name": "larger",
            "scheme.num_rounds": 2,
            "model.base": {"kind": "random", "config": LARGER, "tokenizer_path": str(tokenizer)},
        },
    )
    short = change(small, {"name": "short", "scheme.num_rounds": 2})
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _warm_up(small, place / "warm")
        fresh_s, (replays,) = _taking_turns((small,), place / "small", 3.0)
        replayed_s = sorted(replays)[NUM_WHATIFS // 2]
        first_s, later_s, read_s = _timed_s(small, place / "small" / "0")
        fresh_short_s, (of_larger, of_short) = _taking_turns((larger, short), place / "sizes", 3.5)
        sizes = paired(of_larger, of_short)
    return [
        *(
            Ratio(
                f"fresh run / {what}, quickstart",
                fresh_s / spent_s,
                limit,
                "at least",
                f"{fresh_s:.2f} s against {spent_s * 1e3:.0f} ms",
            )
            for what, spent_s, limit in (
                ("the first what-if on a run", first_s, 500.0),
                ("each later one", later_s, 500.0),
                ("the first one on a run of another process", read_s, 500.0),
                ("a what-if that is played at once", replayed_s, 50.0),
            )
        ),
        Ratio(
            "what-if of a model of 8x256 / of 4x128, 2 rounds",
            sizes.median,
            2.0,
            note=f"{sizes}; {min(of_larger) * 1e3:.0f} against {min(of_short) * 1e3:.0f} ms; fresh, the "
            f"smaller takes {fresh_short_s:.2f} s",
        ),
    ]


def _warm_up(scenario: Scenario, place: Path) -> None:
    """Import what is imported late, and pay for what is only paid once."""
    brief = change(scenario, {"scheme.num_rounds": 1, "scheme.local_steps": 1})
    store = Store(place / "store")
    whatif(
        run(brief, place / "run", store=store), {"radio.noise_figure_db": 1.0}, out=place / "if", store=store
    )


def _taking_turns(
    scenarios: Sequence[Scenario], place: Path, noise_db: float
) -> tuple[float, list[list[float]]]:
    """Return the wall time of a fresh run of the last scenario, and those of what-ifs on each in turn, s.

    The fresh run is taken once and without a store: it is the longer one by far, and what a busy
    machine adds to it would have to be more than the whole margin. No two what-ifs have the same
    noise, as the prices that prove a bound are kept in a process.
    """
    changes: list[dict[str, Any]] = [{"radio.noise_figure_db": noise_db + one} for one in range(NUM_WHATIFS)]
    stores = [Store(place / str(number) / "store") for number, _ in enumerate(scenarios)]
    bases = [
        run(scenario, place / str(number) / "base", store=stores[number])
        for number, scenario in enumerate(scenarios)
    ]
    fresh_s = _seconds(lambda: run(change(scenarios[-1], changes[0]), place / "fresh"))
    replayed_s: list[list[float]] = [[] for _ in scenarios]
    for turn, one in enumerate(changes):
        for number, (base, store) in enumerate(zip(bases, stores, strict=True)):
            out = base.parent / f"whatif-{turn}"
            replayed_s[number].append(_seconds(partial(whatif, base, one, out=out, store=store)))
            assert Record.open(out).manifest["works"]["computed"] == 0
    learned = bases[-1].parent / "whatif-0" / "metrics.parquet"
    assert learned.read_bytes() == (place / "fresh" / "metrics.parquet").read_bytes()
    return fresh_s, replayed_s


def _timed_s(scenario: Scenario, place: Path) -> tuple[float, float, float]:
    """Return wall times of what-ifs that are timed, s.

    Of the first on a run that has just ended, of the next on it, and of the first on a run that this
    process knows nothing of.
    """
    times_s: list[list[float]] = [[], [], []]
    store = Store(place / "store")
    for number in range(NUM_WHATIFS):
        fresh = run(scenario, place / f"run-{number}", store=store)
        other = place / f"other-{number}"
        copytree(place / "base", other)
        for turn, base in enumerate((fresh, fresh, other)):
            changes = {"radio.noise_figure_db": 3.0 + number + 0.25 * (1 + turn)}
            out = place / f"timed-{number}-{turn}"
            times_s[turn].append(_seconds(partial(whatif, base, changes, out=out, engine="auto")))
            assert Record.open(out).status == "timed"
    first_s, later_s, read_s = (sorted(one)[NUM_WHATIFS // 2] for one in times_s)
    return first_s, later_s, read_s


def _seconds(step: Callable[[], object]) -> float:
    begin = perf_counter()
    step()
    return perf_counter() - begin
