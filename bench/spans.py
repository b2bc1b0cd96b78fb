"""What a span costs, in raw SimPy timeouts."""

import gc
from collections.abc import Generator
from time import perf_counter
from typing import Any

import simpy

from bench.ratio import Ratio
from cosim.graph.executor import TimingOnly
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

NUM_TIMEOUTS, REPEATS = 200_000, 9
AIRS = {
    "static channel": {},
    "block fading": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.05}},
    "in turn, every grant recorded": {"allocator.kind": "time_shared"},
}


def measure() -> list[Ratio]:
    """Return the time of a span over that of a timeout, the median of pairs, for several kinds of air."""
    return [_one(name, air) for name, air in AIRS.items()]


def _one(name: str, air: dict[str, Any]) -> Ratio:
    scenario = change(Scenario(name="spans"), {"scheme.num_rounds": 100, "scheme.local_steps": 12, **air})
    prepared = prepare(scenario)
    pairs = []
    for _ in range(REPEATS):
        world = prepared.world(lambda _rank: TimingOnly())
        gc.collect()  # the world before is not this one's to clear away
        begin = perf_counter()
        world.play(scenario.scheme.run(world))
        span_s = (perf_counter() - begin) / len(world.log.spans)
        pairs.append((span_s / timeout_s(), span_s))
    ratio, span_s = sorted(pairs)[REPEATS // 2]
    note = f"{span_s * 1e6:.1f} us a span, its transfer, grant and record included"
    return Ratio(f"span / SimPy timeout, {name}", ratio, 40.0 if "recorded" not in name else None, note=note)


def timeout_s() -> float:
    """Return what a raw timeout takes in this process, now."""
    environment = simpy.Environment()

    def sleeper() -> Generator[simpy.Event, Any, None]:
        for _ in range(NUM_TIMEOUTS):
            yield environment.timeout(1)

    environment.process(sleeper())
    begin = perf_counter()
    environment.run()
    return (perf_counter() - begin) / NUM_TIMEOUTS
