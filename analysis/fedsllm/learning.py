"""What was learned: held-out loss at every rank, and split federated against centralised."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cosim.calibrate import Calibration, calibrate
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.units import Floats


def losses_per_rank(
    scenario: Scenario, ranks: Sequence[int], num_seeds: int, num_rounds: int, store: Store
) -> Calibration:
    """Return the trainings a calibration makes; recalled where the store has them."""

    def watch(rank: int, seed: int, losses: Floats) -> None:
        print(f"  rank {rank}, seed {seed}: held-out loss {losses[-1]:.4f}", flush=True)

    return calibrate(scenario, ranks, num_seeds=num_seeds, num_rounds=num_rounds, store=store, watch=watch)


def centralized_losses(
    scenario: Scenario, rank: int, seeds: Sequence[int], num_rounds: int, store: Store
) -> Floats:
    """Return held-out losses on the same mini-batches but uncut, shape (num_seeds, num_rounds + 1)."""
    found = []
    for seed in seeds:
        changes = {
            "scheme": {
                "kind": "centralized",
                "num_rounds": num_rounds,
                "local_steps": scenario.scheme.local_steps,
            },
            "lora.rank": rank,
            "allocator": {"kind": "time_shared"},
        }
        with TemporaryDirectory() as folder:
            record = Record.open(run(change(scenario, changes, seed), Path(folder) / "run", store=store))
            metrics = record.metrics.to_pydict()
        rows = zip(metrics["round"], metrics["name"], metrics["value"], strict=True)
        found.append([value for _, name, value in sorted(rows) if name == "eval_loss"])
        print(f"  centralised, seed {seed}: held-out loss {found[-1][-1]:.4f}", flush=True)
    return np.array(found)
