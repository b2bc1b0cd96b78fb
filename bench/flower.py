"""A Flower application on our grid against its own simulation, by the time of its training in one process."""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.ratio import Ratio

TESTS = Path(__file__).parents[1] / "tests"
NUM_ROUNDS = 10
PAIRS = 3


def measure() -> list[Ratio]:
    """Return our time over that of Flower's simulation; nothing where Flower is not installed."""
    if find_spec("flwr") is None:
        return []
    sys.path.insert(0, str(TESTS))
    import flower_apps

    import cosim.flower
    from cosim.scenario.settings import Scenario

    logging.getLogger("flwr").setLevel(logging.ERROR)
    link = {"num_subchannels": 6, "bandwidth_hz": 1e6}
    scenario = Scenario.model_validate(
        {
            "name": "flower",
            "scheme": {"kind": "federated"},
            "clients": {"count": flower_apps.NUM_CLIENTS},
            "radio": {"federated_uplink": link, "federated_downlink": {**link, "modelled": True}},
            "allocator": {"kind": "equal"},
        }
    )
    ours, theirs = [], []
    with TemporaryDirectory() as folder:
        for pair in range(-1, PAIRS):  # the first warms up
            app, other = (flower_apps.heavier(NUM_ROUNDS) for _ in range(2))
            began = perf_counter()
            out = Path(folder) / str(pair)
            cosim.flower.run(scenario, app.server_app, app.client_app, out=out)
            between = perf_counter()
            flower_apps.simulate(other)
            if pair >= 0:
                ours.append(between - began)
                theirs.append(perf_counter() - between)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    note = f"median of {PAIRS} pairs; {median(ours):.2f} against {median(theirs):.2f} s"
    return [
        Ratio("a Flower application on our grid / in Flower's simulation", median(ratios), 1.1, note=note)
    ]
