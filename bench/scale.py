"""How processor time and memory grow with the clients of a cell, timing alone."""

import subprocess
import sys
from pathlib import Path

from bench.ratio import Ratio

SCENARIO = Path(__file__).with_suffix(".toml")
FEW, MANY, NUM_ROUNDS = 500, 2_000, 10
_PLAY = """
import resource, sys, tempfile, time
from pathlib import Path
from cosim.runs import run
from cosim.scenario.load import change, load

scenario = change(load(Path(sys.argv[1])), {"clients.count": int(sys.argv[2])})
at_s = []
with tempfile.TemporaryDirectory() as folder:
    run(scenario, Path(folder) / "run", timing_only=True, watch=lambda _: at_s.append(time.process_time()))
print(at_s[-1] - at_s[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure() -> list[Ratio]:
    """Return the time of a client and round among many over that among few, and the most memory, GB."""
    (few_s, _), (many_s, peak_kb) = _played(FEW), _played(MANY)
    return [
        Ratio(
            f"time per client and round, {MANY} clients / {FEW}",
            many_s / MANY / (few_s / FEW),
            1.3,
            note=f"{many_s / MANY / NUM_ROUNDS * 1e3:.2f} and {few_s / FEW / NUM_ROUNDS * 1e3:.2f} ms",
        ),
        Ratio(f"peak of {MANY} clients x {NUM_ROUNDS} rounds / 1 GB", peak_kb / 1e6, 1.0),
    ]


def _played(num_clients: int) -> tuple[float, float]:
    """Return the processor time of the rounds, s, and the most memory of the process, kB."""
    command = [sys.executable, "-c", _PLAY, str(SCENARIO), str(num_clients)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rounds_s, peak_kb = map(float, told.split())
    return rounds_s, peak_kb
