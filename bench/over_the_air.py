"""Rounds whose uploads are added by the air against the same rounds with bits."""

import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from bench.ratio import Ratio
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

NUM_CLIENTS, REPEATS = 50, 5
SCENARIO: dict[str, Any] = {
    "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 2},
    "clients.count": NUM_CLIENTS,
    "data.source.num_train": 600,
    "data.source.num_test": 8,
    "training.batch_size": 2,
    "lora.rank": 4,
    "radio.federated_uplink.num_subchannels": NUM_CLIENTS,
}
AIRS: dict[str, dict[str, Any]] = {
    "digital": {},
    "one weight a sender": {"radio.medium": {"kind": "over_the_air"}},
    "standardised, and all that is known charged": {
        "radio.medium": {"kind": "over_the_air", "values": "standardised", "channel_knowledge": "charged"}
    },
    "a weight for each block and subchannel": {
        "radio.medium": {
            "kind": "over_the_air",
            "precoding": {"kind": "truncated_inversion"},
            "truncation": "subchannel",
        },
        "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
    },
}


def measure() -> list[Ratio]:
    """Return CPU time over that of the digital rounds, the least of several taken in turns."""
    times = [{name: _spent_s(changes) for name, changes in AIRS.items()} for _ in range(REPEATS + 1)]
    least = {name: min(one[name] for one in times[1:]) for name in AIRS}  # the first loads libraries
    digital_s = least.pop("digital")
    return [
        Ratio(
            f"over the air / digital round, {NUM_CLIENTS} clients, {name}",
            spent_s / digital_s,
            1.05,
            note=f"{spent_s:.2f} against {digital_s:.2f} s",
        )
        for name, spent_s in least.items()
    ]


def _spent_s(changes: dict[str, Any]) -> float:
    scenario = change(Scenario(name="over_the_air"), {**SCENARIO, **changes})
    with tempfile.TemporaryDirectory() as folder:
        began_s = process_time()
        run(scenario, Path(folder) / "run")
        return process_time() - began_s
