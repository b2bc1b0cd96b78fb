"""Timing alone at the size of GPT-2: a span in raw SimPy timeouts, and memory against what tables need."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from bench.ratio import Ratio
from bench.spans import timeout_s
from cosim.graph.executor import TimingOnly
from cosim.record.log import Log
from cosim.record.tables import grants_table, metrics_table, spans_table
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.scenario.prepared import Prepared
from cosim.scenario.settings import Scenario
from cosim.world import Progress, World

SCENARIO = Path(__file__).parents[1] / "scenarios" / "fedsllm_gpt2.toml"
REPEATS = 5


def measure() -> list[Ratio]:
    """Return the time of a span over that of a timeout, and the memory of rounds over what they need."""
    prepared = prepare(load(SCENARIO))
    pairs = sorted(_span_s(prepared) for _ in range(REPEATS))
    ratio, span_s, num_spans = pairs[REPEATS // 2]
    scheme = prepared.scenario.scheme
    name = (
        f"{prepared.scenario.num_clients} clients, {scheme.num_rounds} rounds of {scheme.local_steps} steps"
    )
    return [
        Ratio(
            f"span / SimPy timeout, fedsllm_gpt2: {name}",
            ratio,
            40.0,
            note=f"{span_s * 1e6:.1f} us a span, {num_spans} spans in {span_s * num_spans:.2f} s",
        ),
        _memory(scheme.num_rounds),
    ]


def _span_s(prepared: Prepared) -> tuple[float, float, int]:
    """Return the time of a span, in timeouts and in seconds, from the decision who gets what to the end."""
    at: dict[int, tuple[float, int]] = {}

    def watch(progress: Progress) -> None:
        at[progress.round] = perf_counter(), progress.num_spans

    _play(prepared, watch)
    (begin, before), (end, after) = at[0], at[max(at)]
    span_s = (end - begin) / (after - before)
    return span_s / timeout_s(), span_s, after - before


def _memory(num_rounds: int) -> Ratio:
    """Return what more rounds keep over what their rows take in the tables; what all runs share cancels."""
    few, many = (
        _bytes(change(load(SCENARIO), {"scheme.num_rounds": one})) for one in (num_rounds, 2 * num_rounds)
    )
    num_spans, kept, columns = (more - less for more, less in zip(many, few, strict=True))
    return Ratio(
        "memory rounds keep / bytes of their rows in the tables, fedsllm_gpt2",
        kept / columns,
        2.0,
        note=f"{kept / num_spans:.0f} bytes a span, {columns / num_spans:.0f} in its columns",
    )


def _bytes(scenario: Scenario) -> tuple[int, int, int]:
    """Return spans, bytes kept at the end of a run, and bytes of its tables."""
    prepared = prepare(scenario)
    _play(prepared)  # caches fill, and late imports are done
    gc.collect()
    tracemalloc.start()
    world = _play(prepared)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return len(world.log.spans), kept, _column_bytes(world.log)


def _play(prepared: Prepared, watch: Callable[[Progress], None] = lambda progress: None) -> World:
    world = prepared.world(lambda _rank: TimingOnly(), watch)
    world.play(prepared.scenario.scheme.run(world))
    return world


def _column_bytes(log: Log) -> int:
    tables = spans_table(log.spans), metrics_table(log.metrics), grants_table(log.grants)
    return sum(int(table.nbytes) for table in tables)
