"""Writing the Perfetto trace of a long run, in times of what its builder alone takes for empty packets."""

import json
import subprocess
import sys
from tempfile import TemporaryDirectory

from bench.ratio import Ratio

NUM_SPANS, REPEATS = 200_000, 3
_PLAY = """
import sys
from pathlib import Path
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
scenario = change(Scenario(name="trace"), {changes})
run(scenario, Path(sys.argv[1]) / "run", timing_only=True)
"""
_WRITE = """
import json, resource, sys
from pathlib import Path
from time import perf_counter
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
from cosim.record.folder import Record
from cosim.report.perfetto import write_trace
from cosim.report.spans import Spans

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def empty(count):
    begin = perf_counter()
    with (folder / "empty").open("wb") as file:
        builder = StreamingTraceProtoBuilder(file)
        for _ in range(count):
            builder.write_packet(builder.create_packet())
    return perf_counter() - begin

folder = Path(sys.argv[1])
record = Record.open(folder / "run")
num_spans = len(Spans.of(record))
write_trace(record, folder / "warm")  # imports and caches are not what is measured
read_bytes = peak()
pairs = []
for _ in range(int(sys.argv[3])):
    empty_s = empty(int(sys.argv[2]))
    begin = perf_counter()
    write_trace(record, folder / "trace", force=True)
    pairs.append((perf_counter() - begin, empty_s))
size = (folder / "trace").stat().st_size
print(json.dumps([num_spans, *sorted(pairs, key=lambda one: one[0] / one[1])[len(pairs) // 2], peak(), size]))
"""
_ONLY_READ = """
import resource, sys
from pathlib import Path
from perfetto.protos.perfetto.trace import perfetto_trace_pb2
from cosim.record.folder import Record
from cosim.report.spans import Spans
spans = Spans.of(Record.open(Path(sys.argv[1]) / "run"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
CELLS = {
    "5 clients": {"scheme.num_rounds": 100, "scheme.local_steps": 96},
    "100 clients through a queue": {
        "clients.count": 100,
        "allocator.kind": "time_shared",
        "scheme.server_batch": "per_client",
        "scheme.num_rounds": 20,
        "scheme.local_steps": 20,
        "data.source.num_train": 1000,
    },
}


def measure() -> list[Ratio]:
    """Return the time of writing a span over that of an empty packet, for few and for many clients."""
    return [_one(name, changes) for name, changes in CELLS.items()]


def _one(name: str, changes: dict[str, object]) -> Ratio:
    with TemporaryDirectory() as folder:
        _child(_PLAY.format(changes=changes), folder)
        read_bytes = json.loads(_child(_ONLY_READ, folder))
        measured = json.loads(_child(_WRITE, folder, str(NUM_SPANS), str(REPEATS)))
    num_spans, trace_s, empty_s, peak_bytes, size = measured
    note = (
        f"{trace_s:.2f} s for {num_spans} spans ({size / 1e6:.0f} MB), {empty_s:.2f} s for {NUM_SPANS} empty "
        f"packets; peak {peak_bytes / 1e6:.0f} MB, {read_bytes / 1e6:.0f} MB to read the spans alone"
    )
    per_span = (trace_s / num_spans) / (empty_s / NUM_SPANS)
    return Ratio(f"trace of a span / empty packet, {name}", per_span, 3.0, note=note)


def _child(script: str, *arguments: str) -> str:
    child = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return child.stdout.strip()
