"""Make the experiments on real models or go on with them, and draw PNG, PDF and CSV into one folder."""

import argparse
import os
from pathlib import Path

# before torch is loaded: threads that spin between operations take a busy machine ten times as long
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib

matplotlib.use("agg")

from analysis.drawing import Progress, as_command
from analysis.real_model.jobs import Asked, jobs, places
from cosim.graph.store import Store

STORE_BYTES = 8_000_000_000
"""SOFT on SmolLM2 alone would leave 50 GB; a training that is complete is read from its run folder."""


def main() -> None:
    """Read the command line and make every job asked for."""
    parser = argparse.ArgumentParser(prog="python -m analysis.real_model", description=__doc__)
    every = list(jobs())
    names = [one.name for one in every]
    parser.add_argument("--out", type=Path, default=Path("runs/analysis-real-model"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and cases, ten minutes in all")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="JOB", help=", ".join(names)
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="has smollm2-135m; else COSIM_MODELS")
    parser.add_argument("--e2e", type=Path, metavar="DIR", help="texts of E2E; data/e2e without it")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="kept values; else one of OUT, of 8 GB at most"
    )
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    store, store_bytes = Store(told.store or told.out / "store"), None if told.store else STORE_BYTES
    asked = Asked(told.out, store, told.quick, places(told.models, told.e2e), store_bytes)
    chosen = [one for one in every if one.name in told.only]
    progress = Progress(**{one.name: (1, one.quick_s if told.quick else one.whole_s) for one in chosen})
    for job in chosen:
        job.run(asked)
        progress.done(job.name, job.name)


if __name__ == "__main__":
    as_command(main)
