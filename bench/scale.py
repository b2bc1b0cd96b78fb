"""How processor time and memory grow with the clients of a cell, timing alone, under both clocks."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.ratio import Ratio

SCENARIO = Path(__file__).with_suffix(".toml")
FEW, MANY, NUM_ROUNDS = 500, 2_000, 10
TEXTS = 8  # of each of these: a batch drawn from fewer goes through them more often, which takes longer
CROWD, CROWD_ROUNDS, CROWD_GB = 10_000, 100, 2.0
CITY, CITY_ROUNDS, CITY_GB = 100_000, 10, 4.0
LONGEST_S = 120.0
_DOMAINS = ("hotel", "film", "job")  # one has fewer texts than a city has clients
_PLAY = """
import resource, sys, tempfile, time
from pathlib import Path
from cosim.runs import run
from cosim.scenario.load import change, load

count, num_rounds, record = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
domains, num_texts = sys.argv[5].split(), int(sys.argv[6])
each = -(-num_texts // len(domains))
changes = {"clients.count": count, "scheme.num_rounds": num_rounds, "record": record}
texts = {"data.source.domains": domains, "data.source.num_train": each}
scenario = change(load(Path(sys.argv[1])), changes | texts)
at_s = []
with tempfile.TemporaryDirectory() as folder:
    run(scenario, Path(folder) / "run", timing_only=True, watch=lambda _: at_s.append(time.process_time()))
print(at_s[-1] - at_s[0], time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure() -> Iterator[Ratio]:
    """Yield time by clients and rounds, and the most memory; the tensor clock's against its own limits."""
    few, many = (_played(count, NUM_ROUNDS, "spans", TEXTS * count) for count in (FEW, MANY))
    yield Ratio(
        f"time per client and round, {MANY} clients / {FEW}",
        many.rounds_s / MANY / (few.rounds_s / FEW),
        1.3,
        note=" and ".join(
            f"{one.rounds_s / count / NUM_ROUNDS * 1e3:.2f} ms" for one, count in ((many, MANY), (few, FEW))
        ),
    )
    yield Ratio(f"peak of {MANY} clients x {NUM_ROUNDS} rounds / 1 GB", many.peak_kb / 1e6, 1.0)
    crowd = _played(CROWD, CROWD_ROUNDS, "summary", CROWD)
    yield from _of_summaries(crowd, CROWD, CROWD_ROUNDS, CROWD_GB)
    city = _played(CITY, CITY_ROUNDS, "summary", CITY)
    yield from _of_summaries(city, CITY, CITY_ROUNDS, CITY_GB)
    each_s = (
        one.rounds_s / count for one, count in ((city, CITY * CITY_ROUNDS), (crowd, CROWD * CROWD_ROUNDS))
    )
    longer, shorter = each_s
    yield Ratio(
        f"time per client and round by the tensor clock, {CITY} clients / {CROWD}",
        longer / shorter,
        1.2,
        note=f"{longer * 1e6:.0f} and {shorter * 1e6:.0f} us",
    )


def _of_summaries(one: "_Took", num_clients: int, num_rounds: int, most_gb: float) -> Iterator[Ratio]:
    """Yield what whole rounds took by the tensor clock, against the limits of the issue."""
    what = f"{num_clients} clients x {num_rounds} rounds by the tensor clock"
    note = f"{one.rounds_s:.0f} s of rounds (aim: 60), {one.whole_s:.0f} s the whole process"
    yield Ratio(f"rounds of {what} / {LONGEST_S:g} s", one.rounds_s / LONGEST_S, 1.0, note=note)
    yield Ratio(f"peak of {what} / {most_gb:g} GB", one.peak_kb / 1e6 / most_gb, 1.0)


class _Took(NamedTuple):
    """Processor time of the rounds, and of the whole process, s, and the most memory it had, kB."""

    rounds_s: float
    whole_s: float
    peak_kb: float


def _played(num_clients: int, num_rounds: int, record: str, num_texts: int) -> _Took:
    """Return what a process takes that times so many rounds of so many clients with so many texts."""
    command = [sys.executable, "-c", _PLAY, str(SCENARIO), str(num_clients), str(num_rounds), record]
    given = [*command, " ".join(_DOMAINS), str(num_texts)]
    told = subprocess.run(given, capture_output=True, text=True, check=True).stdout
    return _Took(*map(float, told.split()))
