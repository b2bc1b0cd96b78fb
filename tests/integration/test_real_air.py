"""Systems of the air on a language model of 135 million weights, made as its README says."""

from pathlib import Path

import pytest
from real_language_model import MARKS, MODEL

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
DIGITAL = {
    "allocator": {"kind": "biased_digital", "airtime_s": 5.0},
    "radio.medium": {
        "kind": "fluid",
        "rate": "fixed",
        "fixed_spectral_efficiency_bit_per_s_per_hz": 1.0,
        "outage": "silent",
    },
    "scheme.update": [{"kind": "quantise", "rounding": "dithered"}],
    "radio.fading.coherence_time_s": 100.0,  # a slot of so many numbers must fit into a block
}

pytestmark = MARKS


@pytest.mark.parametrize(
    ("name", "changes"),
    [("biased_federated", {}), ("biased_federated", DIGITAL), ("ota_fair", {}), ("reflecting_surface", {})],
    ids=["over the air", "digital", "fair", "surface"],
)
def test_a_real_language_model_learns(name, changes, tmp_path):
    few = {
        "model.base": {"kind": "folder", "path": str(MODEL)},
        "scheme.num_rounds": 3,
        "scheme.evaluate_every": 3,
        "data.source.num_train": 40,
        "data.source.num_test": 4,
        "training.optimizer": {"kind": "adamw", "learning_rate": 1e-3},
        "radio.federated_uplink.max_total_tx_power_dbm": 40.0,
    }
    record = Record.open(run(change(load(SCENARIOS / f"{name}.toml"), {**few, **changes}), tmp_path / "run"))
    losses = [row["value"] for row in record.metrics.to_pylist() if row["name"] == "eval_loss"]
    assert losses[-1] < losses[0]
