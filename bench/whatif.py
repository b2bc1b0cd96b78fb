"""A what-if with a warm store against a fresh full run, in one process, at two sizes of the model."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from bench.ratio import Ratio
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run, whatif
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
NOISE_DB = (3.0, 6.0, 12.0, 15.0, 18.0)
LARGER = {
    "model_type": "gpt2",
    "n_layer": 8,
    "n_embd": 256,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": 2048,
}


def measure() -> list[Ratio]:
    """Return fresh over what-if at two sizes of the model, and what-if at the one over the other."""
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
        fresh_s, replayed_s = _one(small, place / "small")
        fresh_short_s, replayed_short_s = _one(short, place / "short")
        fresh_larger_s, replayed_larger_s = _one(larger, place / "larger")
    return [
        Ratio(
            "fresh run / what-if, quickstart",
            fresh_s / replayed_s,
            50.0,
            "at least",
            f"{fresh_s:.2f} s against {replayed_s * 1e3:.0f} ms",
        ),
        Ratio(
            "what-if of a model of 8x256 / of 4x128, 2 rounds",
            replayed_larger_s / replayed_short_s,
            2.0,
            note=f"{replayed_larger_s * 1e3:.0f} against {replayed_short_s * 1e3:.0f} ms; fresh "
            f"{fresh_larger_s:.2f} and {fresh_short_s:.2f} s",
        ),
    ]


def _warm_up(scenario: Scenario, place: Path) -> None:
    """Import what is imported late, and pay for what is only paid once."""
    brief = change(scenario, {"scheme.num_rounds": 1, "scheme.local_steps": 1})
    store = Store(place / "store")
    whatif(
        run(brief, place / "run", store=store), {"radio.noise_figure_db": 1.0}, out=place / "if", store=store
    )


def _one(scenario: Scenario, place: Path) -> tuple[float, float]:
    """Return the wall time of a fresh run without a store, and the median of several what-ifs on it, s.

    The fresh run is taken once: it is the longer side by far, and what a busy
    machine adds to it would have to be more than the whole margin.
    """
    store = Store(place / "store")
    base = run(scenario, place / "base", store=store)
    changes: list[dict[str, Any]] = [{"radio.noise_figure_db": one} for one in NOISE_DB]
    fresh_s = _seconds(lambda: run(change(scenario, changes[0]), place / "fresh"))
    replayed_s = sorted(
        _seconds(lambda one=one, number=number: whatif(base, one, out=place / str(number), store=store))
        for number, one in enumerate(changes)
    )
    assert Record.open(place / "0").manifest["works"]["computed"] == 0
    assert (place / "0" / "metrics.parquet").read_bytes() == (
        place / "fresh" / "metrics.parquet"
    ).read_bytes()
    return fresh_s, replayed_s[len(replayed_s) // 2]


def _seconds(step: Callable[[], object]) -> float:
    begin = perf_counter()
    step()
    return perf_counter() - begin
