"""What a first run pays for the store: the time inside it, in shares of the wall time of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from bench.ratio import Ratio
from cosim.graph.store import Namespace, Store
from cosim.runs import run
from cosim.scenario.load import load

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.toml"
REPEATS = 3


def measure() -> list[Ratio]:
    """Return the median share of the store in a first run of the quickstart.

    With and without a store, run in turns, would say the same; but a busy
    machine moves the time of a whole run by more than the store takes.
    """
    scenario = load(SCENARIO)
    shares = []
    for _ in range(REPEATS):
        with TemporaryDirectory() as folder, _timed() as spent:
            begin = perf_counter()
            run(scenario, Path(folder) / "run", store=Store(Path(folder) / "store"))
            whole_s = perf_counter() - begin
            size = sum(bundle.size_bytes for bundle in Store(Path(folder) / "store").bundles())
        shares.append((spent[0] / whole_s, spent[0], whole_s, size))
    share, store_s, whole_s, size = sorted(shares)[REPEATS // 2]
    note = f"{store_s * 1e3:.0f} ms of {whole_s:.2f} s, {size / 1e6:.1f} MB kept"
    return [Ratio("time in the store / wall time of a first run, quickstart", share, 0.03, note=note)]


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Add up the time spent in what an executor asks of a namespace."""
    spent = [0.0]
    originals = {name: getattr(Namespace, name) for name in ("put", "get", "refresh")}

    def timed(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            begin = perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[0] += perf_counter() - begin

        return call

    for name, method in originals.items():
        setattr(Namespace, name, timed(method))
    try:
        yield spent
    finally:
        for name, method in originals.items():
            setattr(Namespace, name, method)
