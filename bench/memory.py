"""Memory against the number of clients: adapters and optimiser states grow, the base does not.

Both runs compute as many works, because the allocators under torch grow with
the works of a process until they level off, whoever they are for.
"""

import json
import subprocess
import sys

from bench.ratio import Ratio

FEW, MANY = 2, 200
_CHILD = """
import json, resource, tempfile
from pathlib import Path
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
scenario = change(Scenario(name="memory"), {{
    "scheme.num_rounds": 2, "scheme.local_steps": {steps},
    "clients.count": {count}, "allocator.kind": "time_shared",
    "data.source.num_train": 2000, "data.source.num_test": 8, "training.batch_size": 4,
    "model.cut_layer": 2, "lora.rank": 8,
}})
with tempfile.TemporaryDirectory() as folder:
    run(scenario, Path(folder) / "run")
task = prepare(scenario).task
print(json.dumps([
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    task.shape.num_weights * 4,
]))
"""


def measure() -> list[Ratio]:
    """Return the growth of peak memory a client over what its adapters and moments need, and over a base."""
    peaks = {count: _peak_bytes(count) for count in (FEW, MANY)}
    growth = (peaks[MANY][0] - peaks[FEW][0]) / (MANY - FEW)
    base = peaks[MANY][1]
    note = f"peak {peaks[FEW][0] / 1e6:.0f} MB with {FEW}, {peaks[MANY][0] / 1e6:.0f} MB with {MANY} clients"
    return [Ratio("memory a client adds / memory of the base", growth / base, 0.1, note=note)]


def _peak_bytes(count: int) -> tuple[int, int]:
    child = subprocess.run(
        [sys.executable, "-c", _CHILD.format(count=count, steps=2 * MANY // count)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, base = json.loads(child.stdout.splitlines()[-1])
    return peak, base
